"""Whatever a site says, `agent validate` ends with exit status 0 or 3: never with a traceback, never with a bug.

Hundreds of sites go through one process, by the same entry that the command has.
"""

from __future__ import annotations

import io
import json
import random
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cli.main import _run

BASE = {
    "site.toml": """[site]
states = ["web", "mail-store"]
include = ["accounts.d/*.toml"]
[values]
domain = "example.net"
port = 25
names = ["a", "b"]
flag = true
[values.web]
greeting = "hi {{ domain }}"
[[values.accounts]]
email = "a@b.de"
[parameters.size]
type = "size"
default = "25MB"
[secrets.db]
file = "/tmp/db"
generate = 32
[file."/etc/motd"]
content = '''kept {{ domain }}
'''
mode = "0644"
requires = ["apt:*", "state:web"]
[file."/etc/x/{{ item.key }}"]
for_each = { a = 1, b = "{{ port }}" }
content = "{{ item.value }}"
when = "{{ flag and item.key != 'b' }}"
[directory."/etc/x"]
purge = true
keep = ["*.a"]
""",
    "accounts.d/a.toml": '[[values.accounts]]\nemail = "c@d.de"\n',
    "states/web/state.toml": """[state]
summary = "web"
needs = ["mail-store"]
[parameters]
domain = { type = "hostname", doc = "d" }
port = { type = "port", default = 80, min = 1, max = 1000 }
greeting = { type = "string" }
names = { type = "list", of = "string" }
accounts = { type = "list", of = "table" }
[apt.nginx]
debconf = { "a/b" = "string {{ domain }}" }
[file."/etc/web.conf"]
template = "web.conf"
validate = ["nginx", "-t", "{file}"]
[service.nginx]
restart_on = ["file:/etc/web.conf"]
[command.x]
run = ["a", "{{ port }}"]
creates = "/srv/x"
env = { "{{ names[0] }}" = "v" }
[user.vmail]
system = true
[block."/etc/hosts#x"]
content = "pw {{ secrets.db }}"
""",
    "states/web/web.conf": "x {{ domain }} {% for a in accounts %}{{ a.email }}{% endfor %}{% include 'p.conf' %}\n",
    "states/web/p.conf": "{{ mail_store.path }}\n",
    "states/mail-store/state.toml": '[parameters.path]\ntype = "path"\ndefault = "/srv/mail"\n'
                                    '[directory."{{ path }}"]\nowner = "vmail"\n',
}  # fmt: skip
TOKENS = [
    "{{", "}}", "{%", "%}", '"', "'", "[", "]", "=", ".", "\n", "\\", "\0", "\ufeff", "é", '"""', "'''", "{", "}", "#",
    ",", "item", "secrets.db", "facts.arch", "states", "none", "true", "-1", "1e400", "nan", "2020-01-01", "for_each",
    "when", "requires", "template", "state:web", "file:", "..", "/", "*", "\r", "\u2028", "[[", "self", "{{ self }}",
    "{{ item }}", "{{ secrets }}", "{{ secrets.db }}", "{{ facts }}", "{{ range(3) }}", "{{ domain.upper }}", "9" * 21,
    "0x" + "f" * 40, "[site]", "[values]", '[file."/a"]', "[state]", "[parameters.x]", "type", "default", "choices",
    "of", "include", "needs", "{{ nope }}", "{{ 1/0 }}", "{{ accounts|map(attribute='email') }}", "{{ {1:2} }}",
    "{{ [none] }}", "site", "ensure", "name",
]  # fmt: skip
VALUES = [
    "1", "true", '""', '"x"', "[]", "{}", "[1]", "{a=1}", "1.5", "nan", "2020-01-01", '"{{ names }}"', '"{{ none }}"',
    '"{{ secrets.db }}"', '["{{ secrets.db }}"]', '"{{ item }}"', '[["a"]]', '"{{ accounts }}"', '"/a/../b"', "-5",
    '"{{ port }}"', '"{{ flag }}"', "[{}]", '"\\u0000"',
    '"{{ nope.x }}"', '"{{ web }}"', '"{{ web.domain }}"', '"*"',
]  # fmt: skip


def validated(folder: Path, files: dict[str, str]) -> int:
    """The exit status of `agent validate --json`, whose output is looked at."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = _run(["validate", "--json", "--site", str(folder / "site.toml")])
    assert code in (0, 3), f"{code}: {err.getvalue()}"
    problems = json.loads(out.getvalue())["problems"]
    assert bool(problems) is (code == 3)
    for each in problems:
        assert each["file"], each
        assert each["message"], each
        assert each["line"] or "cannot be read" in each["message"], each
        assert "\n" not in each["message"] + each["hint"], each
    return code


def mutated(chance: random.Random) -> dict[str, str]:
    files = dict(BASE)
    for _ in range(chance.randint(1, 4)):
        name = chance.choice(list(files))
        files[name] = _mutated(chance, files[name])
    return files


def _mutated(chance: random.Random, text: str) -> str:
    start = chance.randint(0, len(text))
    end = min(len(text), start + chance.choice([1, 1, 3, 10, 40]))
    lines = text.split("\n")
    words = list(re.finditer(r"[A-Za-z_]+", text))
    values = list(re.finditer(r"= (.*)$", text, re.MULTILINE))
    match chance.randint(0, 6):
        case 0:
            return text[:start] + text[end:]
        case 1:
            return text[:start] + chance.choice(TOKENS) + text[start:]
        case 2:
            return text[:start] + chance.choice(TOKENS) + text[end:]
        case 3:
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
        case 4:
            del lines[chance.randrange(len(lines))]
        case 5 if values:
            found = chance.choice(values)
            return text[: found.start(1)] + chance.choice(VALUES) + text[found.end(1) :]
        case _ if words:
            found = chance.choice(words)
            return text[: found.start()] + chance.choice(TOKENS) + text[found.end() :]
    return "\n".join(lines)


def test_sites_with_mistakes(tmp_path: Path) -> None:
    assert validated(tmp_path, BASE) == 0
    codes = [validated(tmp_path, mutated(random.Random(seed))) for seed in range(250)]
    assert 0 in codes
    assert codes.count(3) > 120


names = st.text(max_size=8) | st.sampled_from(
    ["site", "values", "secrets", "state", "parameters", "file", "apt", "command",
     "service", "/etc/a", "a", "name", "type", "default", "needs", "states", "include", "when", "for_each", "requires",
     "content", "template", "{{ a }}", "item"]
)  # fmt: skip
scalars = (
    st.text(max_size=12) | st.integers(-(2**64), 2**64) | st.floats() | st.booleans() | st.dates() | st.datetimes()
    | st.sampled_from(["{{ a }}", "{{ item }}", "{{ facts.arch }}", "{{ x", "/etc/a", "file:/etc/a", "state:a"])
)  # fmt: skip
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


def toml(value: object) -> str:
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(each):08x}" if each < " " or each in '"\\\x7f' else each for each in value) + '"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=st.dictionaries(names, documents, max_size=5))
def test_random_documents(tmp_path: Path, document: dict[str, object]) -> None:
    text = "\n".join(f"{toml(key)} = {toml(item)}" for key, item in document.items())
    validated(tmp_path, {"site.toml": text})


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.text(max_size=40), expression=st.text(max_size=20))
def test_random_text(tmp_path: Path, content: str, expression: str) -> None:
    validated(tmp_path, {"site.toml": content})
    text = "{{" + expression + "}}" + content
    site = f'[file."/etc/a"]\ncontent = {toml(text)}\n[file."/etc/b"]\ntemplate = "t"\n'
    validated(tmp_path, {"site.toml": site, "t": text})
