"""`{{ … }}` in strings, and template files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitefolder import SiteFolder


def test_expressions_stand_in_any_string_and_whole_ones_keep_their_type(site: SiteFolder) -> None:
    site.files({
        "site.toml": """
[site]
states = ["mail-store", "s"]
[values]
domain = "example.net"
names = ["a", "b"]
port = 25
flag = true
table = { keys = "k", items = 3 }
[[values.accounts]]
email = "x@example.net"
""",
        "states/mail-store/state.toml": '[parameters.path]\ntype = "path"\ndefault = "/srv/mail"\n',
        "states/s/state.toml": """
[parameters]
domain = { type = "hostname" }
names = { type = "list" }
port = { type = "port" }
flag = { type = "bool" }
accounts = { type = "list", of = "table" }
table = { type = "table" }
path = { type = "path", default = "{{ mail_store.path }}/sub" }
[apt."{{ 'post' ~ 'fix' }}"]
debconf = { "{{ domain }}/{{ port }}" = "string {{ domain }}", "a/b" = "select {{ names[0] }}" }
recommends = "{{ flag }}"
[apt.two]
packages = "{{ names | map('replace', 'a', 'aa') }}"
when = "{{ false }}"
[user.bob]
uid = "{{ 1000 + port }}"
comment = "{{ port }}"
shell = "{{ none }}"
groups = "{{ accounts | map(attribute='email') | map('replace', '@example.net', 'y') }}"
[command.x]
run = ["a", "{{ port }}", "{{ path }}", "{{ flag }} {{ port }}", "{{ facts.cpus > 0 }}",
       "{{ facts['arch'] == facts.arch }}",
       "{{ table.keys }}{{ table['items'] }}", "{{- domain -}} ", "{{ 's' in states }}",
       "{% if %} {# x #} }} {{ '{{' }}",
       "a\\r\\nb{{ port }}", "{{ '}}' }}", "{{ range(2) | list | length }}", "{{ (1, 2) | join('-') }}",
       "{{ 'x' if flag else 'y' }}"]
env = { "{{ names[1] }}" = "{{ port }}", n = "{{ 1.5 }}" }
""",
    })  # fmt: skip
    assert site.fields("apt:postfix") == {
        "debconf": {"example.net/25": "string example.net", "a/b": "select a"}, "recommends": True
    }  # fmt: skip
    assert site.fields("user:bob") == {"uid": 1025, "comment": "25", "groups": ["xy"]}
    command = site.fields("command:x")
    assert command["env"] == {"b": "25", "n": "1.5"}
    assert command["run"] == [
        "a", "25", "/srv/mail/sub", "True 25", "True", "True", "k3", "example.net", "True", "{% if %} {# x #} }} {{",
        "a\r\nb25", "}}", "2", "1-2", "x",
    ]  # fmt: skip


EVIL = """a"
[file."/etc/evil"] # ' \\ {{ 1 + 1 }} {% raw %} {# #} \u2028 {{ secrets.x }} ]] = ,
"""


def test_what_is_filled_in_never_changes_the_structure_nor_is_evaluated_again(site: SiteFolder) -> None:
    basic = EVIL.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    site.files({
        "site.toml": f"""
[site]
states = ["s"]
[values]
one = "{basic.replace("{{", "{{ '{{' }}").replace("{%", "{{ '{%' }}")}"
[[values.many]]
text = "\\u0000 NUL {{{{ '{{{{ 2 + 2 }}}}' }}}}"
""",
        "states/s/state.toml": """
[parameters]
one = { type = "string" }
many = { type = "list" }
[file."HOST/a"]
content = "<{{ one }}>"
[file."HOST/b"]
content = "{{ many[0].text }}"
[file."HOST/t"]
template = "t"
[command.x]
run = ["echo", "{{ one }}"]
env = { "{{ many[0].text | replace('\\u0000', '') }}" = "{{ one }}" }
""",
        "states/s/t": "<{{ one }}{{ many[0].text }}>",
    })  # fmt: skip
    shown = site.shown()
    assert len(shown.ids) == 4
    assert site.fields(f"file:{site.host}/a")["content"] == f"<{EVIL}>"
    assert site.fields(f"file:{site.host}/b")["content"] == "\0 NUL {{ 2 + 2 }}"
    assert site.fields(f"file:{site.host}/t")["content"] == f"<{EVIL}\0 NUL {{{{ 2 + 2 }}}}>"
    assert site.fields("command:x") == {"run": ["echo", EVIL], "env": {" NUL {{ 2 + 2 }}": EVIL}}


def test_expressions_that_cannot_be_filled_in(site: SiteFolder) -> None:
    wrong = {
        "{{ domian }}": 'the name "domian" is undefined (did you mean "domain"?)',
        "{{ item.name }}": 'the name "item" is undefined ()',
        "{{ s.prt }}": 'state s has no parameter "prt" (did you mean "port"?)',
        "{{ facts.hostnam }}": 'there is no fact "hostnam" (did you mean "hostname"?)',
        "{{ facts.used }}": 'there is no fact "used"',
        "{{ secrets.mial }}": 'there is no secret "mial" (did you mean "mail"?)',
        "{{ table.colour }}": 'the table has no "colour" (did you mean "color"?)',
        "{{ [domian] }}": 'the name "domian" is undefined',
        "x {{ domain": "not a valid expression",
        "{{ }}": "not a valid expression",
        "{{ 1 + }}": "not a valid expression",
        "{{ domain | uper }}": "not a valid expression: No filter named 'uper'. (did you mean \"upper\"?)",
        "{{ domain | random }}": "not a valid expression",
        "{{ 1 / 0 }}": "cannot be worked out: division by zero",
        "{{ 'x' * 10 ** 15 }}": "cannot be worked out: MemoryError",
        "{{ domain.upper }}": "comes to a builtin function or method, which is no value",
        "{{ facts }}": "is not a value, but a table of names",
        "a {{ s }}": "is not a value, but a table of names",
        "a {{ none }}": "comes to nothing (none), which cannot stand in a text",
        "{{ 5 | seconds }}": "the filter seconds is for texts, not for 5",
        "{{ 'soon' | seconds }}": '"soon" is not a duration',
        "{{ domain.__class__ }}": "has no attribute '__class__'",
        "{{ range(10000000) }}": "has 10000000 items; 100000 are the most",
        "{{ table }}": "must be a string, not a table",
        "{{ flag and nope }}": 'the name "nope" is undefined',
        "{{ other.x }}": 'the name "other" is undefined',
    }  # fmt: skip
    lines = "".join(f"[command.c{i}]\nrun = ['true',\n  '''{text}''']\n" for i, text in enumerate(wrong))
    site.files({
        "site.toml": '[site]\nstates = ["s"]\n[secrets.mail]\nfile = "x"\n',
        "states/s/state.toml": lines + '[parameters]\nport = { type = "port", default = 1 }\n'
                               'domain = { type = "string", default = "d" }\nflag = { type = "bool", default = true }\n'
                               'table = { type = "table", default = { color = "red" } }\n',
        "states/other/state.toml": "",
    })  # fmt: skip
    problems = site.wrong()
    assert [each["key"] for each in problems] == [f"command.c{i}.run[1]" for i in range(len(wrong))]
    assert [each["line"] for each in problems] == [3 * i + 3 for i in range(len(wrong))]
    for problem, (text, words) in zip(problems, wrong.items(), strict=True):
        assert words in f"{problem['message']} ({problem['hint']})", text


def test_templates_are_jinja_with_the_same_names(site: SiteFolder) -> None:
    for name in ("one", "two"):
        site.files({
            f"states/{name}/state.toml": f'[parameters.who]\ntype = "string"\ndefault = "{name}"\n'
                                         f'[file."HOST/{name}"]\ntemplate = "sub/{{{{ who }}}}.conf"\n',
            f"states/{name}/sub/{name}.conf": "{# comment #}{% macro m(x) %}<{{ x }}>{% endmacro %}"
                                              "{% for i in [1, 2] %}{{ m(i) }}{% endfor %} {% include 'part' %}"
                                              "{% include 'none' ignore missing %}{% include '../top' %}\n",
            f"states/{name}/sub/part": f"part of {name}: {{{{ who }}}} {{{{ facts.os_id | length > 0 }}}}",
            f"states/{name}/top": "{% extends 'base' %}{% block b %}{{ one.who }}{% endblock %}",
            f"states/{name}/base": " [{% block b %}{% endblock %}]",
        })  # fmt: skip
    site.write("site.toml", '[site]\nstates = ["one", "two"]\n')
    for name in ("one", "two"):
        content = site.fields(f"file:{site.host}/{name}")["content"]
        assert content == f"<1><2> part of {name}: {name} True [one]\n"


def test_templates_that_cannot_be_filled_in(site: SiteFolder) -> None:
    templates: dict[str, tuple[str | bytes, str, int, str]] = {
        "syntax": ("a\n{% if %}\n", "syntax", 2, "not valid Jinja2"),
        "open": ("a\n\n{% for x in [] %}\n", "open", 3, "not valid Jinja2"),
        "name": ("a\nb {{ domian }}\n", "name", 2, 'the name "domian" is undefined'),
        "deeper": ("a\n{% include 'sub/bad' %}\n", "sub/bad", 2, 'the name "nope" is undefined'),
        "missing": ("\n\n{% include 'lost' %}", "missing", 3, 'there is no template "states/s/lost"'),
        "bytes": (b"fine\n\xff\n", "bytes", 2, "is not UTF-8"),
        "circle": ("{% include 'circle' %}", "circle", 1, "goes round in a circle"),
        "within": ("a\n{% include 'sub' %}\n", "within", 2, "the template states/s/sub cannot be read: Is a directory"),
        "odd": ("{% include facts %}", "odd", 1, "cannot be worked out"),
        "secret": ("x\n{{ secrets.k | length }}", "secret", 2, "the secret k can only be inserted as it stands"),
    }
    site.write("site.toml", '[site]\nstates = ["s"]\n[secrets.k]\nfile = "k"\n')
    site.write("states/s/sub/bad", "\n{{ nope }}")
    toml = '[parameters.domain]\ntype = "string"\ndefault = "x"\n'
    for name, (content, *_) in templates.items():
        site.write(f"states/s/{name}", content)
        toml += f'[file."/etc/{name}"]\ntemplate = "{name}"\n'
    toml += '[file."/etc/lost"]\ntemplate = "lost"\n[file."/etc/folder"]\ntemplate = "sub"\n'
    toml += '[file."/etc/none"]\nsource = "lost"\n[file."/etc/dir"]\nsource = "sub"\n'
    os.mkfifo(site.path / "states/s/pipe")
    toml += '[file."/etc/pipe"]\nsource = "pipe"\n'
    toml += '[file."/etc/nul"]\ntemplate = "a\\u0000"\n'
    site.write("states/s/state.toml", toml)
    told = {each["key"]: each for each in site.wrong()}
    assert len(told) == len(templates) + 6
    for name, (_, file, line, words) in templates.items():
        problem = told[f'file."/etc/{name}".template']
        assert (problem["file"], problem["line"]) == (f"states/s/{file}", line), name
        assert words in problem["message"], name
    assert told['file."/etc/name".template']["hint"] == 'did you mean "domain"?'
    assert told['file."/etc/lost".template']["message"] == 'there is no template "states/s/lost"'
    assert told['file."/etc/none".source']["message"] == "there is no file states/s/lost"
    assert told['file."/etc/pipe".source']["message"] == "states/s/pipe is not a regular file"
    assert told['file."/etc/dir".source']["message"] == "states/s/sub is a directory"
    folder = told['file."/etc/folder".template']
    assert folder["message"] == "the template states/s/sub cannot be read: Is a directory"
    line = toml.splitlines().index('template = "sub"') + 1
    assert (folder["file"], folder["line"]) == ("states/s/state.toml", line)


def test_a_file_beside_has_a_name(site: SiteFolder) -> None:
    site.write("site.toml", '[file."/etc/t"]\ntemplate = ""\n[file."/etc/s"]\nsource = ""\n')
    told = {each["key"]: each["message"] for each in site.wrong()}
    assert "template is empty" in told['file."/etc/t"']
    assert "source is empty" in told['file."/etc/s"']


def test_a_table_in_a_list_stands_for_as_many_as_for_each_gives(site: SiteFolder) -> None:
    site.files({
        "site.toml": """
[values]
[[values.people]]
name = "ann"
aliases = ["a", "b"]
[[values.people]]
name = "bob"
level = 3
[postgres_rows."db.public.t"]
key = ["name"]
rows = [
  { name = "first" },
  { for_each = "{{ people }}", name = "{{ item.name }}", level = "{{ item.level | default(none) }}" },
]
[postgres_rows."db.public.u"]
key = ["alias"]
rows = [{ for_each = "{{ people | subelements('aliases') }}", alias = "{{ item[1] }}", name = "{{ item[0].name }}" }]
[postgres_rows."db.public.none"]
key = ["a"]
rows = [{ for_each = [], a = "{{ item }}" }]
""",
    })  # fmt: skip
    assert site.fields("postgres_rows:db.public.t")["rows"] == [
        {"name": "first"}, {"name": "ann"}, {"name": "bob", "level": 3}
    ]  # fmt: skip
    assert site.fields("postgres_rows:db.public.u")["rows"] == [
        {"alias": "a", "name": "ann"}, {"alias": "b", "name": "ann"}
    ]  # fmt: skip
    assert site.fields("postgres_rows:db.public.none").get("rows", []) == []


def test_what_is_wrong_in_such_a_table_is_told_where_it_stands(site: SiteFolder) -> None:
    site.files({
        "site.toml": """
[values]
people = [{ name = "ann" }]
[postgres_rows."db.public.t"]
key = ["name"]
rows = [{ for_each = "{{ people }}", name = "{{ item.nam }}" }]
[postgres_rows."db.public.u"]
key = ["name"]
rows = [{ for_each = 3, name = "x" }]
""",
    })  # fmt: skip
    told = {problem["line"]: problem["message"] for problem in site.run("validate", "--json").problems}
    assert 'the table has no "nam" (did you mean "name"?)' in told[6]
    assert told[9] == "must give a list or a table, not an integer (3)"
