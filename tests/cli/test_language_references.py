"""Resources together: references, `when`, `for_each`, order, implied requirements, duplicates."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitefolder import SiteFolder

RUN = 'run = ["true"]\n'


def test_references_exact_by_pattern_and_to_states(site: SiteFolder) -> None:
    site.files({
        "site.toml": f"""
[site]
states = ["s", "t"]
[file."HOST//a/./1/"]
content = ""
[file."HOST/a/2"]
content = ""
[command.exact]
{RUN}requires = ["file:HOST/a/1", "file:/HOST/./a//2"]
[command.glob]
{RUN}requires = ["file:HOST/a/[12]", "command:[f-h]*"]
[command.state]
{RUN}requires = ["state:s", "command:{{{{ 'exact' }}}}"]
[block."HOST//etc/./x#label"]
content = "x"
[command.block]
{RUN}requires = ["block:HOST/etc/x#label"]
""",
        "states/s/state.toml": f"[command.s1]\n{RUN}requires = ['state:s']\n[command.s2]\n{RUN}",
        "states/t/state.toml": "",
    })  # fmt: skip
    shown = site.shown()
    host = site.host
    assert shown.resource("command:exact")["requires"] == [f"file:{host}/a/1", f"file:{host}/a/2"]
    assert shown.resource("command:glob")["requires"] == [f"file:{host}/a/1", f"file:{host}/a/2"]
    assert shown.resource("command:state")["requires"] == ["command:s1", "command:s2", "command:exact"]
    assert shown.resource("command:block")["requires"] == [f"block:{host}/etc/x#label"]
    assert shown.resource("command:s1")["requires"] == ["command:s2"]


def test_references_to_nothing(site: SiteFolder) -> None:
    site.files({
        "site.toml": f"""
[site]
states = ["s"]
[file."/etc/postfix/main.cf"]
content = ""
[command.x]
{RUN}refresh_on = ["file:/etc/postfix/man.cf"]
requires = [
  "fil:/etc/postfix/main.cf", "/etc/postfix/main.cf",
  "apt:*", "state:ss", "state:t", "state:site", "command:y*", "", ":", "file:", 3,
]
[service.cron]
restart_on = ["command:xx"]
reload_on = "command:x"
""",
        "states/s/state.toml": "", "states/t/state.toml": "",
    })  # fmt: skip
    told = {each["key"]: each for each in site.wrong()}
    key = "command.x.requires[{}]"
    assert set(told) == {key.format(10), "service.cron.reload_on"}
    text = (site.path / "site.toml").read_text().replace('"file:", 3,', '"file:",')
    site.write("site.toml", text.replace('"command:x"', '["command:x"]'))
    told = {each["key"]: each for each in site.wrong()}
    assert set(told) == {*(key.format(i) for i in range(10)), "service.cron.restart_on[0]", "command.x.refresh_on[0]"}
    assert told["command.x.refresh_on[0]"]["hint"] == 'did you mean "file:/etc/postfix/main.cf"?'
    assert told[key.format(0)]["hint"] == 'did you mean "file"?'
    assert told[key.format(1)]["hint"] == 'write "kind:name"'
    assert told[key.format(3)]["hint"] == 'did you mean "s"?'
    assert "add it to the needs" in told[key.format(4)]["hint"]
    assert told["service.cron.restart_on[0]"]["hint"] == 'did you mean "command:x"?'
    assert {told[key.format(i)]["line"] for i in (0, 1)} == {10}


def test_circles_are_told_with_the_whole_path(site: SiteFolder) -> None:
    names = {"a": "b", "b": "c", "c": "a", "self": "self", "d": "e", "e": "d", "f": "a"}
    site.write("site.toml", "".join(f'[command.{a}]\n{RUN}requires = ["command:{b}"]\n' for a, b in names.items()))
    assert [(each["line"], each["key"], each["message"]) for each in site.wrong()] == [
        (1, "command.a", "requirements in a circle: command:a → command:b → command:c → command:a"),
        (10, "command.self", "requirements in a circle: command:self → command:self"),
        (13, "command.d", "requirements in a circle: command:d → command:e → command:d"),
    ]


def test_what_when_leaves_out_is_not_required(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        f"""
[values]
wanted = false
names = ["a", "b"]
[file."/etc/off/"]
content = "{{{{ names }}}}"
mode = 644
when = "{{{{ wanted }}}}"
[file."/etc/{{{{ item }}}}"]
content = "x"
for_each = "{{{{ names }}}}"
when = "{{{{ item == 'b' }}}}"
[command.never]
{RUN}when = false
[command.x]
{RUN}requires = ["file:/etc/off", "file://etc/off", "file:/etc/a", "file:/etc/b", "command:never", "command:nev*"]
[command.empty]
{RUN}when = "{{{{ [] }}}}"
[command.yes]
{RUN}when = "{{{{ not wanted and facts.cpus }}}}"
""",
    )
    shown = site.shown()
    assert shown.ids == ["file:/etc/b", "command:x", "command:yes"]
    assert shown.resource("command:x")["requires"] == ["file:/etc/b"]


def test_when_and_for_each_that_are_wrong(site: SiteFolder) -> None:
    wrong = {
        "a": 'when = "yes"', "b": "when = 1", "c": 'when = "{{ nope }}"', "d": 'when = "{{ \'true\' }}"',
        "e": 'for_each = "abc"', "f": "for_each = 3", "g": 'for_each = "{{ nope }}"', "h": 'for_each = ["{{ nope }}"]',
        "i": 'for_each = "{{ 5 }}"', "j": 'wen = true',
    }  # fmt: skip
    text = "".join(f"[command.{name}]\n{RUN}{line}\n" for name, line in wrong.items())
    text += f'[command.twice]\n{RUN}for_each = ["a", "b"]\n'
    text += f'[command."k{{{{ item.x }}}}"]\n{RUN}for_each = [{{ y = 1 }}]\n'
    text += f'[command."{{{{ item }}}}"]\n{RUN}for_each = [true]\n[command.""]\n{RUN}[command." "]\n{RUN}'
    site.write("site.toml", text)
    told = {each["key"]: each for each in site.wrong()}
    assert set(told) == {
        *(f"command.{name}.{line.partition(' ')[0]}" for name, line in wrong.items()), "command.twice",
        'command."k{{ item.x }}"', 'command."{{ item }}"', 'command.""', 'command." "',
    }  # fmt: skip
    assert told["command.j.wen"]["hint"] == 'did you mean "when"?'
    assert "for_each gives its name more than once" in told["command.twice"]["message"]
    assert "did you mean" not in told["command.a.when"]["message"]
    assert told['command."k{{ item.x }}"]'.removesuffix("]")]["message"].startswith('the table has no "x"')


def test_for_each_makes_one_resource_per_item(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        f"""
[values]
names = ["b", "a"]
nobody = []
[values.table]
z = {{ mode = "0600", keys = "k" }}
y = {{ mode = "0640", keys = "l" }}
[file."/etc/{{{{ item.key }}}}"]
for_each = "{{{{ table }}}}"
content = "{{{{ item.value.keys }}}}"
mode = "{{{{ item.value.mode }}}}"
[command."run-{{{{ item }}}}"]
for_each = ["{{{{ names[0] }}}}", 3, "c"]
run = ["{{{{ item }}}}"]
[user."u{{{{ item }}}}"]
for_each = "{{{{ nobody }}}}"
[group."g{{{{ item.n }}}}"]
for_each = [{{ n = 1 }}, {{ n = "{{{{ 1 + 1 }}}}" }}]
gid = "{{{{ 1000 + item.n }}}}"
[command."m{{{{ item }}}}"]
for_each = "{{{{ names | map('upper') }}}}"
{RUN}requires = ["command:run-*", "user:*", "user:u*", "user:ubob", "group:g1"]
""",
    )
    shown = site.shown()
    assert shown.ids == [
        "file:/etc/z", "file:/etc/y", "command:run-b", "command:run-3", "command:run-c", "group:g1", "group:g2",
        "command:mB", "command:mA",
    ]  # fmt: skip
    assert shown.resource("file:/etc/y")["fields"] == {"content": "l", "mode": "0640"}
    assert shown.resource("command:run-3")["fields"] == {"run": ["3"]}
    assert shown.resource("group:g2")["fields"] == {"gid": 1002}
    assert shown.resource("command:mA")["requires"] == [f"command:run-{name}" for name in "b3c"] + ["group:g1"]
    each = f'[command."r{{{{ item }}}}"]\nfor_each = ["a"]\n{RUN}'
    site.write("site.toml", each + f'[command.x]\n{RUN}requires = ["command:rb"]\n')
    assert [each["hint"] for each in site.wrong()] == ['did you mean "command:ra"?'], "an item that is not there"


def test_implied_requirements_are_listed(site: SiteFolder) -> None:
    site.files({
        "site.toml": '[site]\nstates = ["s", "other"]\n[file."/srv/new/x"]\ncontent = ""\nowner = "vmail"\n',
        "states/other/state.toml": '[apt.tree]\n[directory."/srv"]\n',
        "states/s/state.toml": f"""
[service.web]
[file."/srv/data/deep/f"]
content = ""
owner = "vmail"
group = "mail"
[command.prepare]
{RUN}user = "vmail"
[block."/srv/data/b#x"]
content = ""
[directory."/srv/data"]
[link."/srv/new"]
target = "data"
[user.vmail]
home = "/srv/data/home"
groups = ["mail"]
[group.mail]
[apt.nginx]
[apt.php]
requires = ["apt:nginx"]
""",
    })  # fmt: skip
    shown = site.shown()
    implied = {row["id"]: set(row["implied_requires"]) for row in shown.json["resources"]}
    apt = {"apt:nginx", "apt:php"}
    folders = {"directory:/srv", "directory:/srv/data"}
    assert implied["file:/srv/data/deep/f"] == {*folders, "user:vmail", "group:mail", *apt}
    assert implied["block:/srv/data/b#x"] == {*folders, *apt}
    assert implied["command:prepare"] == {"user:vmail", *apt}
    assert implied["user:vmail"] == {"group:mail", *folders, *apt}
    assert implied["service:web"] == {
        "file:/srv/data/deep/f", "command:prepare", "block:/srv/data/b#x", "directory:/srv/data", "link:/srv/new",
        "user:vmail", "group:mail", *apt,
    }  # fmt: skip
    assert implied["file:/srv/new/x"] == {"directory:/srv", "link:/srv/new", "directory:/srv/data", "user:vmail"}
    assert implied["apt:tree"] == implied["apt:php"] == set()
    assert shown.resource("apt:php")["requires"] == ["apt:nginx"]
    text = site.run("show", "service:web").out
    assert text.startswith('[service."web"]  # states/s/state.toml:2\n# implied: ')
    order = {id: i for i, id in enumerate(shown.ids)}
    for id, needed in implied.items():
        assert all(order[other] < order[id] for other in needed), id


def test_what_goes_comes_before_the_directory_that_it_lies_in(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        """
[directory."/srv/old"]
ensure = "absent"
[file."/srv/old/deep/f"]
ensure = "absent"
[directory."/srv/old/deep"]
ensure = "absent"
""",
    )
    assert site.shown().ids == ["file:/srv/old/deep/f", "directory:/srv/old/deep", "directory:/srv/old"]
    with (site.path / "site.toml").open("a") as file:
        file.write('[file."/srv/old/new"]\ncontent = ""\n')
    assert [each["message"] for each in site.wrong()] == [
        "/srv/old/new lies in directory:/srv/old, which is declared absent at site.toml:2"
    ]


def test_order_is_that_of_declaration_unless_required_and_always_the_same(site: SiteFolder) -> None:
    shuffled = [f"c{i}" for i in range(40)]
    random.Random(7).shuffle(shuffled)
    needs = {"c3": "c20", "c20": "c39", "c0": "c3"}
    toml = "".join(
        f"[command.{name}]\n{RUN}" + (f'requires = ["command:{needs[name]}"]\n' if name in needs else "")
        for name in shuffled
    )
    site.write("site.toml", toml + '[file."/etc/a"]\ncontent = ""\n')
    ids = site.shown().ids
    place = {id.partition(":")[2]: i for i, id in enumerate(ids)}
    assert all(place[needed] < place[name] for name, needed in needs.items())
    free = [name for name in shuffled if name not in (*needs, *needs.values())]
    assert [name for name in place if name in free] == free
    for seed in ("0", "1", "77"):
        site.environ["PYTHONHASHSEED"] = seed
        site.environ["AGENT_STATE_DIR"] = f"{site.state}-{seed}"
        assert site.shown().ids == ids


def test_a_resource_is_declared_once_however_it_is_spelled(site: SiteFolder) -> None:
    site.files({
        "site.toml": '[site]\nstates = ["s"]\ninclude = ["more.toml"]\n[file."/etc/a"]\ncontent = "a"\n[apt.tree]\n'
                     '[link."/etc/l"]\ntarget = "x"\n[block."/etc/b#x"]\ncontent = "x"\n'
                     '[block."/etc/b#y"]\ncontent = "x"\n'
                     f'[command.c]\n{RUN}creates = "/etc/a"\n',
        "more.toml": '[file."/etc//./a/"]\ncontent = "b"\n[directory."/etc/l"]\n[file."/etc/b"]\ncontent = "x"\n'
                     '[block."/etc//b#x"]\ncontent = "x"\n',
        "states/s/state.toml": "[apt.tree]\n",
    })  # fmt: skip
    told = {(each["file"], each["key"]): each["message"] for each in site.wrong()}
    assert told == {
        ("site.toml", "apt.tree"): "apt:tree is declared twice; the first is at states/s/state.toml:1",
        ("more.toml", 'file."/etc//./a/"'): "file:/etc/a is declared twice; the first is at site.toml:4",
        ("more.toml", 'directory."/etc/l"'): "/etc/l is declared twice; the first is link:/etc/l at site.toml:7",
        ("more.toml", 'block."/etc//b#x"'): "block:/etc/b#x is declared twice; the first is at site.toml:9",
        ("site.toml", 'block."/etc/b#x"'): "file:/etc/b at more.toml:4 declares the whole content of /etc/b",
        ("site.toml", 'block."/etc/b#y"'): "file:/etc/b at more.toml:4 declares the whole content of /etc/b",
    }


def test_fields_of_every_resource_and_wrong_types(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        f"""
[file."/etc/a"]
content = "x"
drift = "report"
check_every = "5m"
on_removal = "undo"
requires = []
when = true
[file."/etc/b"]
content = 3
mode = 644
owner = "no body"
drift = "repiar"
check_every = "soon"
on_removal = "undoo"
requires = "file:/etc/a"
sensitive = "yes"
ensure = "absnt"
validate = []
[file."etc/c"]
content = "x"
[command.x]
{RUN}env = {{ a = 1 }}
timeout = 5
[command.y]
{RUN}timeout = "0s"
check_every = "0ms"
[file."/etc/d"]
content = "x"
template = "y"
[file."/etc/e"]
content = [["x"]]
[directory."/etc/f"]
keep = ["x"]
""",
    )
    told = {each["key"]: each for each in site.wrong()}
    b = 'file."/etc/b".'
    assert set(told) == {
        *(b + key for key in ("content", "mode", "owner", "drift", "check_every", "on_removal", "requires", "sensitive",
                              "ensure", "validate")),
        'file."etc/c"', "command.x.env.a", "command.x.timeout", "command.y.timeout", "command.y.check_every",
        'file."/etc/d"', 'file."/etc/e".content',
        'directory."/etc/f"',
    }  # fmt: skip
    assert told[b + "drift"]["message"] == 'must be "repair" or "report", not a string ("repiar")'
    assert told[b + "drift"]["hint"] == 'did you mean "repair"?'
    assert told[b + "mode"]["message"] == "must be a string, not an integer (644)"
    assert told[b + "mode"]["hint"] == 'write octal digits in quotes, such as "0644"'
    assert told[b + "content"]["hint"] == "write it in quotes"
    assert [told[b + key]["line"] for key in ("content", "ensure")] == [10, 18]
