"""Canary secrets through every kind and command: they never show up in what the agent writes, or in a process."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import start
from sitefolder import SiteFolder

CANARY = "Canary7vQx2LmZr9TbWk4HsYd6NpEf3"
OTHER = "Pigeon5cJu8GaXo1RiVe7MtBq4KwZl2"
HOLDS = "{{ secrets.canary }}"
SITE = """
[secrets.canary]
file = "canary"
[file."HOST/content"]
content = "password = {{ secrets.canary }}\\n"
[file."HOST/template"]
template = "conf"
[file."HOST/utf16"]
content = "{{ secrets.canary }}"
encoding = "utf-16"
[block."HOST/shared#login"]
content = "login {{ secrets.canary }}"
[file."HOST/validated"]
content = "{{ secrets.canary }}"
validate = ["cat", "{file}"]
[command.reads-it]
run = ["sh", "-c", "cat HOST/content; cat HOST/content >&2; sleep 0.2"]
refresh_on = ["file:HOST/content"]
[check.reads-it]
run = ["cat", "HOST/content"]
expect = "password"
requires = ["file:HOST/content"]
"""
EVERY_COMMAND = [
    ["apply", "--check"], ["apply", "--check", "--json"], ["apply", "--check", "--verbose"], ["apply", "--debug"],
    ["status"], ["status", "--json"], ["show"], ["show", "--json"],
    ["log", "--verbose"], ["log", "--json"], ["log", "1"], ["graph"],
    ["graph", "--json"], ["docs", "file"], ["doctor"], ["doctor", "--json"], ["validate", "--json"],
]  # fmt: skip


def forms(secret: str) -> list[bytes]:
    """A secret in the spellings in which it might slip through; of base64 what no neighbouring byte changes."""
    raw = secret.encode()
    coded = [base64.b64encode(b"\0" * shift + raw)[4:-4] for shift in range(3)]
    wide = [secret.encode("utf-16-le"), secret.encode("utf-16-be")]
    return [raw, raw[::-1], raw.hex().encode(), raw.hex().upper().encode(), *coded, *wide]


def shows(data: bytes, *secrets: str) -> bool:
    """Whether a secret stands in it."""
    return any(form in data for secret in secrets or (CANARY, OTHER) for form in forms(secret))


def places(site: SiteFolder) -> list[str]:
    """Files of the agent's own in which a secret stands."""
    return [str(path) for path in site.state.rglob("*") if path.is_file() and shows(path.read_bytes())]


def told(site: SiteFolder, *words: str, code: int | None = None) -> str:
    """What a command says, in which no secret may stand."""
    result = site.run(*words)
    assert code is None or result.code == code, result.text
    assert not shows(result.text.encode()), f"{words}: {result.text}"
    assert places(site) == [], words
    return result.text


@pytest.fixture
def secret(site: SiteFolder) -> SiteFolder:
    """A site with secrets wherever they can stand."""
    site.write("canary", CANARY + "\n")
    site.write("conf", f"key: {HOLDS}\n# {{{{ 1 + 1 }}}}\n")
    site.write("site.toml", SITE)
    return site


def everything(site: SiteFolder) -> None:
    """Every command once."""
    for words in EVERY_COMMAND:
        told(site, *words)


def test_no_command_tells_it(secret: SiteFolder) -> None:
    told(secret, "apply", "--check", code=2)
    told(secret, "apply", "--json", code=0)
    assert CANARY in (secret.host / "content").read_text()
    assert CANARY in (secret.host / "template").read_text()
    assert CANARY.encode("utf-16") == (secret.host / "utf16").read_bytes()
    assert (secret.host / "content").stat().st_mode & 0o077 == 0
    everything(secret)


def test_drift_and_change_of_it(secret: SiteFolder) -> None:
    told(secret, "apply", code=0)
    (secret.host / "content").write_text(f"password = {OTHER}\n")  # by hand
    rows = told(secret, "apply", "--check", "--json", code=2)
    assert '"cause": "drift"' in rows
    assert "(sensitive)" in rows
    told(secret, "apply", "--verbose", code=0)
    secret.write("canary", OTHER + "\n")
    assert '"cause": "intent"' in told(secret, "apply", "--check", "--json", code=2)
    told(secret, "apply", code=0)
    assert OTHER in (secret.host / "content").read_text()
    everything(secret)


@pytest.mark.parametrize("how", ["absent", "plain", "undo"])
def test_what_was_a_secret_stays_hidden(secret: SiteFolder, how: str) -> None:
    once = '[secrets.canary]\nfile = "canary"\n' + "".join(
        f'[{kind}]\ncontent = "x {HOLDS}"\non_removal = "undo"\n'
        for kind in ('file."HOST/content"', 'block."HOST/shared#b"')
    )
    secret.write("site.toml", once)
    told(secret, "apply", code=0)
    body = {"absent": 'ensure = "absent"\n', "plain": 'content = "nothing to hide\\n"\n', "undo": ""}[how]
    if body:
        now = f'[file."HOST/content"]\n{body}[block."HOST/shared#b"]\n{body}'
        secret.write("site.toml", now)
    else:
        secret.write("site.toml", "[site]\n")
    told(secret, "apply", "--check", "--json", code=2)
    told(secret, "apply", "--check", "--verbose", code=2)
    told(secret, "apply", "--verbose", code=0)
    assert not any(shows(path.read_bytes()) for path in secret.host.iterdir())
    everything(secret)


def test_sensitive_contents_without_a_secret(site: SiteFolder) -> None:
    (site.host / "b").write_text(f"before {OTHER}\n")
    site.write("from", CANARY)
    site.write("conf", CANARY)
    site.write(
        "site.toml",
        "".join(
            f'[{kind}]\n{body}\nsensitive = true\non_removal = "undo"\n'
            for kind, body in (
                ('file."HOST/a"', 'source = "from"'),
                ('file."HOST/b"', 'template = "conf"'),
                ('file."HOST/c"', f'content = "{CANARY}"'),
                ('block."HOST/d#b"', f'content = "{CANARY}"'),
            )
        )
        + '[command.quiet]\nrun = ["sh", "-c", "cat HOST/c; false"]\ncreates = "HOST/x"\nsensitive = true\n'
        'requires = ["file:HOST/c"]\n',
    )
    told(site, "apply", "--check", "--verbose", code=2)
    told(site, "apply", "--json", code=1)
    everything(site)
    (site.host / "a").write_text(OTHER)
    told(site, "apply", code=1)
    site.write("site.toml", "[site]\n")
    told(site, "apply", "--verbose")
    everything(site)


def test_programs_that_print_it(secret: SiteFolder) -> None:
    secret.write(
        "site.toml",
        SITE.replace('["cat", "{file}"]', '["sh", "-c", "cat $0; cat $0 >&2; exit 1", "{file}"]')
        .replace('expect = "password"', "expect = 7")
        .replace("sleep 0.2", "exit 1"),
    )
    text = told(secret, "apply", "--json", code=1)
    assert "the new content is not valid" in text
    assert "exit status 1" in text
    told(secret, "doctor", code=1)
    everything(secret)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("command", f'run = ["echo", "{HOLDS}"]'),
        ("command", f'run = ["sh", "-c", "echo {HOLDS}"]'),
        ("command", f'run = ["true"]\nenv = {{ KEY = "{HOLDS}" }}'),
        ("command", f'run = ["true"]\nunless = ["test", "{HOLDS}"]'),
        ("check", f'run = ["echo", "{HOLDS}"]'),
        ("check", f'connect = "tcp://{HOLDS}:1"'),
    ],
)
def test_arguments_and_environment_take_none(secret: SiteFolder, kind: str, key: str) -> None:
    secret.write("site.toml", f'[secrets.canary]\nfile = "canary"\n[{kind}.bad]\n{key}\n')
    assert "a secret cannot stand here" in told(secret, "validate", code=3)
    assert not list(secret.host.iterdir())


def processes(leader: int) -> Iterator[bytes]:
    """Arguments and environment of a process and all that it started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(re.sub(r".*\) . ", "", path.read_text()).split()[0])
        except (OSError, ValueError):
            continue
    family = {leader}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    for pid in family:
        for name in ("cmdline", "environ"):
            try:
                yield Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue


def test_no_process_carries_it(secret: SiteFolder) -> None:
    process = start(secret, "apply", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen: set[bytes] = set()
    while process.poll() is None:
        seen.update(processes(process.pid))
        time.sleep(0.002)
    assert process.returncode == 0
    assert any(b"sleep 0.2" in data for data in seen), "nothing was seen at all"
    assert not any(shows(data) for data in seen)


def test_a_generated_secret_and_a_credential(site: SiteFolder) -> None:
    credentials = site.path / "credentials"
    site.write("credentials/login", CANARY)
    site.write(
        "site.toml",
        '[secrets.made]\ngenerate = 32\n[secrets.login]\ncredential = "login"\n'
        '[file."HOST/a"]\ncontent = "{{ secrets.login }} {{ secrets.made }}"\n',
    )
    assert "there are no credentials here" in told(site, "apply", "--check", code=1)
    site.environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    told(site, "apply", "--json", code=0)
    made = (site.path / "secrets/made").read_text().strip()
    assert os.stat(site.path / "secrets/made").st_mode & 0o777 == 0o600
    for path in site.state.rglob("*"):
        assert not path.is_file() or not shows(path.read_bytes(), made, CANARY)
    everything(site)
