"""`agent show`: the compiled desired state, without what must not be seen."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import SiteFolder

SITE = """
[values]
[[values.accounts]]
email = "a@b.de"
note = "hush-rows"
hash = "{{ secrets.k }}"
[secrets.k]
file = "k"
[file."/etc/a"]
content = "hush-file"
sensitive = true
[file."/etc/b"]
template = "t"
sensitive = true
[file."/etc/c"]
content = '''
line "one"
\\tline two\\n
'''
mode = "0640"
requires = ["file:/etc/a"]
[block."/etc/d#x"]
content = "hush-block"
sensitive = true
[command.x]
run = ["echo", "hush-run"]
unless = ["hush-unless"]
only_if = ["hush-only"]
env = { A = "hush-env" }
sensitive = true
[postgres_rows."mail.public.accounts"]
key = ["email"]
rows = "{{ accounts }}"
sensitive_columns = ["note"]
[iptables.in]
chain = "INPUT"
rules = ["-p tcp --dport {{ 20 + 5 }} -j ACCEPT"]
[service."cron.service"]
restart_on = ["file:/etc/c"]
"""


def test_nothing_sensitive_is_shown(site: SiteFolder) -> None:
    site.files({"site.toml": SITE, "t": "hush-template", "k": "hush-secret"})
    json, text = site.run("show", "--json"), site.run("show")
    assert "hush" not in json.text + text.text
    assert json.resource("postgres_rows:mail.public.accounts")["fields"]["rows"] == [
        {"email": "a@b.de", "note": "(sensitive)", "hash": "(sensitive)"}
    ]
    assert json.resource("command:x")["fields"]["run"] == "(sensitive)"
    assert json.resource("iptables:in")["fields"] == {
        "chain": "INPUT", "rules": ["-p tcp --dport 25 -j ACCEPT"]
    }, "what differs from the defaults"  # fmt: skip


def test_text_is_toml_again_with_the_place_of_each_resource(site: SiteFolder) -> None:
    site.files({"site.toml": SITE, "t": "x", "k": "x"})
    shown = site.run("show").out
    document = tomllib.loads(shown)
    assert document["file"]["/etc/c"] == {
        "content": 'line "one"\n\\tline two\\n\n', "mode": "0640", "requires": ["file:/etc/a"]
    }  # fmt: skip
    assert '[file."/etc/c"]  # site.toml:15\n' in shown
    line = SITE[: SITE.index("[service")].count("\n") + 1
    assert f'[service."cron.service"]  # site.toml:{line}\n' in shown
    assert site.run("show", "file:/etc/c", "command:*").out.count("]  # site.toml:") == 2
    nothing = site.run("show", "file:/etc/cc")
    assert nothing.code == 3
    assert 'did you mean "file:/etc/c"?' in nothing.err


def test_two_spellings_of_a_unit_are_one_resource(site: SiteFolder) -> None:
    site.write("site.toml", '[service.cron]\n[command.x]\nrun = ["true"]\nrefresh_on = ["service:cron.service"]\n')
    assert site.shown().resource("command:x")["requires"] == ["service:cron"]
    with (site.path / "site.toml").open("a") as file:
        file.write('[service."cron.service"]\n[service."cron.timer"]\n')
    assert [(each["line"], each["message"]) for each in site.wrong()] == [
        (5, "service:cron is declared twice; the first is at site.toml:1")
    ]
