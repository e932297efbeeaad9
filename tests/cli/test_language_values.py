"""Parameters of states and the values that a site gives them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitefolder import SiteFolder

# type, further keys of the parameter, good values, bad ones
TYPES: list[tuple[str, str, list[object], list[object]]] = [
    ("string", "", ["", "x", "ä\n"], [1, True, 1.5, ["x"], {"a": "x"}]),
    ("string", "min = 2\nmax = 3", ["ab", "abc"], ["a", "abcd"]),
    ("string", 'choices = ["a", "b"]', ["a"], ["c", "A", 1]),
    ("int", "", [0, -1, 2**63 - 1], ["1", 1.0, True, [1]]),
    ("int", "min = 1\nmax = 25", [1, 25], [0, 26]),
    ("bool", "", [True, False], ["true", 1, 0]),
    ("path", "", ["/", "/srv/mail"], ["srv", "~/x", "", "/a/../b", "a\0b", 1]),
    ("hostname", "", ["localhost", "mail.example.net", "a-b.example", "x1."],
     ["", "a b", "-a.de", "a..b", "a_b.de", "a" * 64, ".".join(["abcd"] * 60), "ſ.de", "a.de\n", 1]),
    ("email", "", ["a@b.de", "first.last+tag@sub.example.net"],
     ["", "a", "@b.de", "a@", "a@b c", "a b@c.de", "a@@b.de", ".a@b.de", "a@-b.de", f"{'a' * 65}@b.de", 1]),
    ("port", "", [1, 25, 65535], [0, 65536, -1, "25", 25.0, True]),
    ("port", "min = 1024", [1024], [80]),
    ("duration", "", ["60s", "1h30m", "500ms", "0.5h", "7d"],
     ["60", "s", "", "1x", "1h 30m", "-5s", 60, "٣s", "9" * 400 + "s"]),
    ("duration", 'min = "1m"\nmax = "1h"', ["60s", "1h"], ["59s", "61m"]),
    ("size", "", ["25MB", "512KiB", "4096", "1.5 GiB", "1g"], ["MB", "", "-1MB", "1XB", 25, "9" * 400, "1.5.5MB"]),
    ("size", 'min = "1KB"\nmax = "1MiB"', ["1000", "1MiB"], ["999", "1025KiB"]),
    ("cidr", "", ["192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "::1"], ["192.0.2.0/33", "300.1.1.1", "x", "", 1]),
    ("list", "", [[], [1, "a"]], ["a", {"a": 1}, 1]),
    ("list", 'of = "hostname"\nmin = 1', [["a.de"]], [[], ["a.de", "a b"], [1], "a.de"]),
    ("table", "", [{}, {"a": [1]}], ["a", [], 1]),
    ("choice", 'choices = ["red", "green", 3]', ["red", 3], ["blue", "3", True, 3.0, ["red"]]),
]  # fmt: skip


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def typed_site(site: SiteFolder, *, good: bool) -> dict[str, tuple[str, object]]:
    """A site with a parameter for each of these values; gives its type and value by name."""
    given, declared = {}, ["[state]"]
    for i, (kind, more, rights, wrongs) in enumerate(TYPES):
        for j, value in enumerate(rights if good else wrongs):
            given[f"p{i}_{j}"] = (kind, value)
            declared.append(f'[parameters.p{i}_{j}]\ntype = "{kind}"\ndoc = "about p{i}"\n{more}')
    lines = [f"{name} = {toml(value)}" for name, (_, value) in given.items()]
    site.write("site.toml", '[site]\nstates = ["s"]\n[values]\n' + "\n".join(lines) + "\n")
    resource = '[command.{0}]\nrun = ["true"]\nenv = {{ v = "{{{{ [{0}] | string }}}}" }}'
    shown = "\n".join(resource.format(name) for name in given)
    site.write("states/s/state.toml", "\n".join(declared) + "\n" + shown + "\n")
    return given


def test_good_values_of_every_type(site: SiteFolder) -> None:
    given = typed_site(site, good=True)
    shown = {row["name"]: row["fields"]["env"]["v"] for row in site.shown().json["resources"]}
    assert shown == {name: str([value]) for name, (_, value) in given.items()}


def test_bad_values_of_every_type(site: SiteFolder) -> None:
    given = typed_site(site, good=False)
    problems = site.wrong()
    assert [each["key"] for each in problems] == [f"values.{name}" for name in given]
    for line, (problem, name) in enumerate(zip(problems, given, strict=True), start=4):
        assert (problem["file"], problem["line"]) == ("site.toml", line)
        assert problem["hint"] == f"about {name.partition('_')[0]}"
    told = {each["key"]: each["message"] for each in problems}
    assert told["values.p4_0"] == "must be at least 1, not 0"
    assert told["values.p1_1"] == "must have a length of at most 3, not 4"
    assert told["values.p9_1"] == "65536 is not a port: 1 to 65535"
    assert told["values.p17_1"].startswith('[1] "a b" is not a host name')
    assert told["values.p19_0"] == 'must be one of "red", "green", 3, not a string ("blue")'


def test_declarations_of_parameters_that_are_wrong(site: SiteFolder) -> None:
    declared = {
        "a": "", "b": 'type = "text"', "c": 'type = ["int"]', "d": 'type = "int"\ndefualt = 1',
        "e": 'type = "int"\ndefault = "x"', "f": 'type = "choice"', "g": 'type = "int"\nmin = "x"',
        "h": 'type = "int"\nmin = 3\nmax = 1', "i": 'type = "list"\nof = ["x"]', "j": 'type = "string"\nof = "int"',
        "k": 'type = "bool"\nmax = 3', "l": 'type = "string"\ndoc = 3', "m": 'type = "list"\nof = "hostnam"',
        "n": 'type = "int"\nchoices = ["a"]', "item": 'type = "int"', "not": 'type = "int"', '"x-y"': 'type = "int"',
        "o": 'type = "choice"\nchoices = ["a"]\ndefault = "b"', "p": 'type = "port"\ndefault = 0',
    }  # fmt: skip
    text = "".join(f"[parameters.{name}]\n{table}\n" for name, table in declared.items())
    site.files({
        "site.toml": '[site]\nstates = ["s"]\n[values]\na = 1\nb = "{{ s.c }}"\n',
        "states/s/state.toml": "parameters.q = 3\n" + text + '[command.x]\nrun = ["{{ a }}", "{{ d }}"]\n',
    })  # fmt: skip
    problems = site.wrong()
    assert {each["file"] for each in problems} == {"states/s/state.toml"}, "what follows from a wrong one is not told"
    told = {each["key"]: each for each in problems}
    assert len(told) == len(problems) == len(declared) + 1
    assert told["parameters.b.type"]["hint"].startswith("one of string, int, bool, path, hostname, email, port,")
    assert told["parameters.d.defualt"]["hint"] == 'did you mean "default"?'
    assert told["parameters.e.default"]["message"] == 'must be a whole number, not a string ("x")'
    assert told["parameters.m.of"]["hint"] == 'did you mean "hostname"?'


def test_a_missing_value_shows_what_the_parameter_is_for(site: SiteFolder) -> None:
    site.files({
        "site.toml": '[site]\nstates = ["s"]\n',
        "states/s/state.toml": '[parameters.domain]\ntype = "hostname"\ndoc = "The mail domain, also in HELO"\n'
                               '[command.x]\nrun = ["{{ domain }}", "{{ domain | upper }}"]\n',
    })  # fmt: skip
    problems = site.wrong()
    assert [(each["file"], each["key"]) for each in problems] == [("site.toml", "values.domain")]
    assert "The mail domain, also in HELO" in problems[0]["message"]
    assert "[values.s]" in problems[0]["hint"]


def test_precedence_of_values_and_values_that_use_one_another(site: SiteFolder) -> None:
    site.files({
        "site.toml": """
[site]
states = ["one", "two-b"]
[values]
both = "of all"
name = "{{ both }}!"
[values.one]
both = "mine, not {{ both }}"
own = "{{ both }} / {{ two_b.own }} / {{ facts.arch | length > 0 }}"
""",
        "states/one/state.toml": """
[parameters]
both = { type = "string" }
name = { type = "string" }
own = { type = "string", default = "unused" }
one = { type = "string", default = "as the state" }
calm = { type = "duration", default = "1h30m" }
big = { type = "size", default = "2KiB" }
[command.x]
run = ["{{ both }}", "{{ name }}", "{{ own }}", "{{ one }}", "{{ calm | seconds }}", "{{ big | bytes }}",
       "{{ two_b.both }}"]
""",
        "states/two-b/state.toml": """
[parameters]
both = { type = "string", default = "unused" }
own = { type = "string", default = "{{ both }}?" }
""",
    })  # fmt: skip
    assert site.fields("command:x")["run"] == [
        "mine, not of all", "of all!", "mine, not of all / of all? / True", "as the state", "5400.0", "2048", "of all"
    ]  # fmt: skip


def test_values_in_a_circle(site: SiteFolder) -> None:
    site.files({
        "site.toml": '[site]\nstates = ["s"]\n[values]\na = "{{ b }}"\nb = "{{ s.c }}"\n',
        "states/s/state.toml": '[parameters.c]\ntype = "string"\ndefault = "{{ d }}"\n'
                               '[parameters.d]\ntype = "string"\ndefault = "{{ c }}"\n',
    })  # fmt: skip
    told = sorted((each["file"], each["key"], each["message"]) for each in site.wrong())
    assert told == [
        ("site.toml", "values.a", "no state reads this value"),
        ("states/s/state.toml", "parameters.c.default", "values need each other in a circle: s.c → s.d → s.c"),
    ]


def test_values_that_nothing_reads(site: SiteFolder) -> None:
    site.files({
        "site.toml": """
[site]
states = ["web"]
[values]
domian = "x"
used = "u"
in_template = 1
in_part = 2
item = 3
[values.web]
prot = 1
[values.mail]
path = "/x"
[values.wbe]
port = 1
[file."/tmp/{{ used }}"]
template = "t"
""",
        "t": "{{ in_template }}{% include 'part' %}",
        "part": "{{ in_part }}",
        "states/web/state.toml": '[parameters]\nport = { type = "port", default = 80 }\n'
                                 'domain = { type = "string", default = "d" }\n',
        "states/mail/state.toml": "",
    })  # fmt: skip
    told = {each["key"]: (each["line"], each["message"], each["hint"]) for each in site.wrong()}
    assert told.pop("values.item")[1] == "this name has a meaning of its own in expressions"
    assert told == {
        "values.domian": (5, "no state reads this value", 'did you mean "domain"?'),
        "values.web.prot": (11, "state web has no parameter of this name", 'did you mean "port"?'),
        "values.mail": (12, "no state reads this value",
                        'the site does not select the state "mail": add it to states in [site]'),
        "values.wbe": (14, "no state reads this value", 'did you mean "web"?'),
    }  # fmt: skip


def test_values_of_several_documents(site: SiteFolder) -> None:
    site.files({
        "site.toml": '[site]\ninclude = ["accounts.d/*.toml"]\nstates = ["s"]\n[values]\naccounts = []\na = 1\n'
                     'l = [1]\n[values.s]\nx = 1\n[[values.more]]\nn = 0\n',
        "accounts.d/1.toml": '[[values.accounts]]\nemail = "a@b.de"\n[values.s]\ny = 2\n[[values.more]]\nn = 1\n',
        "accounts.d/2.toml": '[[values.accounts]]\nemail = "c@d.de"\n[[values.accounts]]\nemail = "e@f.de"\n',
        "states/s/state.toml": '[parameters]\nx = { type = "int" }\ny = { type = "int" }\na = { type = "int" }\n'
                               'l = { type = "list" }\naccounts = { type = "list", of = "table" }\n'
                               'more = { type = "list", of = "table" }\n[command.x]\n'
                               'run = ["{{ accounts | map(attribute=\'email\') | join(\',\') }}",'
                               '"{{ more | string }}", "{{ x + y }}"]\n',
    })  # fmt: skip
    assert site.fields("command:x")["run"] == ["a@b.de,c@d.de,e@f.de", "[{'n': 0}, {'n': 1}]", "3"]
    third = '[values]\na = 2\nl = [2]\naccounts = [1]\ns = 3\n[[values.more]]\nn = "{{ nope }}"\n'
    site.write("accounts.d/3.toml", third)
    told = {each["key"]: each["message"] for each in site.wrong()}
    assert {each["file"] for each in site.wrong()} == {"accounts.d/3.toml"}
    assert told["values.a"] == "is given twice; the first is at site.toml:6"
    assert set(told) == {"values.a", "values.l", "values.accounts", "values.s", "values.more[2].n"}


def test_a_site_may_declare_parameters_too(site: SiteFolder) -> None:
    declared = '[parameters.size]\ntype = "size"\ndoc = "How much"\n'
    site.write("site.toml", declared + '[command.x]\nrun = ["{{ size | bytes }}"]\n')
    assert "the site needs a value for size (size): How much" in site.wrong()[0]["message"]
    with (site.path / "site.toml").open("a") as file:
        file.write('[values]\nsize = "1KB"\n')
    assert site.fields("command:x")["run"] == ["1000"]


FIELDS = """
[parameters.people]
type = "list"
of = "table"
[parameters.people.fields]
email = { type = "email", required = true, doc = "Where mail goes" }
age = { type = "int", max = 150 }
aliases = { type = "list", of = "email" }
secret = { type = "string" }
[command.x]
run = ["{{ people | map(attribute='email') | join(',') }}"]
"""


def test_tables_have_the_fields_that_are_declared(site: SiteFolder) -> None:
    site.files({
        "site.toml": '[site]\nstates = ["s"]\ninclude = ["p/*"]\n[secrets.k]\nfile = "k"\n'
                     '[[values.people]]\nemail = "a@b.de"\nage = 7\nsecret = "{{ secrets.k }}"\n',
        "p/1": '[[values.people]]\nemail = "c@d.de"\naliases = ["e@f.de"]\n',
        "states/s/state.toml": FIELDS,
    })  # fmt: skip
    assert site.fields("command:x")["run"] == ["a@b.de,c@d.de"]
    site.write("p/2", '[[values.people]]\nmail = "x@y.de"\nage = 151\n[[values.people]]\nemail = "x"\nalias = []\n'
                      '[[values.people]]\nemail = "g@h.de"\naliases = ["i"]\n')  # fmt: skip
    told = {each["key"]: each for each in site.wrong()}
    assert {key: each["line"] for key, each in told.items()} == {
        "values.people[2]": 1, "values.people[2].mail": 2, "values.people[2].age": 3,
        "values.people[3].email": 5, "values.people[3].alias": 6, "values.people[4].aliases": 9,
    }  # fmt: skip
    assert {each["file"] for each in told.values()} == {"p/2"}
    assert told["values.people[2]"]["message"] == "email is missing"
    assert told["values.people[2]"]["hint"] == "Where mail goes"
    assert (told["values.people[3].alias"]["message"], "aliases" in told["values.people[3].alias"]["hint"]) == (
        "unknown key", True,
    )  # fmt: skip
    assert "150" in told["values.people[2].age"]["message"]


def test_fields_that_make_no_sense(site: SiteFolder) -> None:
    parameters = (
        '[parameters.a]\ntype = "int"\ndefault = 1\nfields = { x = { type = "int" } }\n'
        '[parameters.b]\ntype = "table"\nfields = { x = 1 }\n'
        '[parameters.c]\ntype = "table"\nfields = { x = { type = "itn" }, y = { type = "int", default = 1 } }\n'
        '[parameters.d]\ntype = "table"\nfields = { x = { type = "int", required = 1 } }\n'
    )
    site.files(
        {"site.toml": '[site]\nstates = ["s"]\n', "states/s/state.toml": parameters + '[command.x]\nrun = ["x"]\n'}
    )
    assert {each["key"] for each in site.wrong()} == {
        "parameters.a.fields", "parameters.b.fields", "parameters.c.fields.x.type", "parameters.c.fields.y.default",
        "parameters.d.fields.x.required",
    }  # fmt: skip


RULES = """
[parameters.people]
type = "list"
of = "table"
doc = "Who is here"
default = []
[[parameters.people.refuse]]
for_each = "{{ people | subelements('aliases') }}"
when = "{{ item[1] in (people | map(attribute='name') | list) }}"
message = "{{ item[1] }} is an alias of {{ item[0].name }}, and somebody else"
[parameters.first]
type = "string"
default = "{{ people[0].name if people else '' }}"
[[parameters.first.refuse]]
when = "{{ people and first not in (people | map(attribute='name') | list) }}"
message = "{{ first }} is not there"
[command.x]
run = ["{{ first }}"]
"""


def test_a_rule_refuses_values_where_they_are_written(site: SiteFolder) -> None:
    site.files({
        "site.toml": '[site]\nstates = ["s"]\ninclude = ["p/*"]\n[secrets.k]\nfile = "k"\n',
        "p/1": '[[values.people]]\nname = "a"\naliases = ["c"]\nsecret = "{{ secrets.k }}"\n',
        "states/s/state.toml": RULES,
    })  # fmt: skip
    assert site.fields("command:x")["run"] == ["a"]
    site.write("p/2", '[[values.people]]\nname = "b"\n[[values.people]]\nname = "d"\naliases = ["e", "a", "b"]\n')
    assert [(each["file"], each["line"], each["key"], each["message"]) for each in site.wrong()] == [
        ("p/2", 3, "values.people[2]", "a is an alias of d, and somebody else"),
        ("p/2", 3, "values.people[2]", "b is an alias of d, and somebody else"),
    ]
    site.write("p/2", '[values]\nfirst = "z"\n')
    assert [(each["key"], each["message"]) for each in site.wrong()] == [("values.first", "z is not there")]


def test_rules_that_make_no_sense(site: SiteFolder) -> None:
    parameters = (
        '[parameters.a]\ntype = "int"\ndefault = 1\nrefuse = 1\n'
        '[parameters.b]\ntype = "int"\ndefault = 1\nrefuse = [{ wenn = "x", message = 1 }]\n'
        '[parameters.c]\ntype = "int"\ndefault = 1\nrefuse = [{ when = "{{ c > 0 }}", message = "m", for_each = 1 }]\n'
    )
    site.files(
        {"site.toml": '[site]\nstates = ["s"]\n', "states/s/state.toml": parameters + '[command.x]\nrun = ["x"]\n'}
    )
    assert [each["key"] for each in site.wrong()] == [
        "parameters.a.refuse", "parameters.b.refuse[0].wenn", "parameters.b.refuse[0]", "parameters.b.refuse[0]",
        "parameters.c.refuse[0].for_each",
    ]  # fmt: skip
    for rule in (
        '{ when = "yes", message = "m" }',
        '{ when = "{{ nothing_such }}", message = "m" }',
        '{ when = "{{ true }}", message = "m", for_each = "{{ a }}" }',
        '{ when = "{{ secrets.k }}", message = "m" }',
    ):
        site.write(
            "states/s/state.toml",
            f'[parameters.a]\ntype = "int"\ndefault = 1\nrefuse = [{rule}]\n'
            '[secrets.k]\nfile = "k"\n[command.x]\nrun = ["{{ a }}"]\n',
        )
        assert [each["key"] for each in site.wrong()] == ["parameters.a.refuse[0]"]
