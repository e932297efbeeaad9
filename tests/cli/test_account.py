"""`agent account`: declarations of accounts that are whole or not there, from outside."""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from outside import command, environ, start
from pgp_tools import Owner, owner
from sitefolder import Result, SiteFolder

from agent.errors import UsageError
from agent.mail.accounts_address import address

PASSWORD = "correct horse battery canary"
SITE = '[site]\nstates = ["accounts"]\ninclude = ["accounts.d/*.toml"]\n[values]\ndomain = "example.net"\n'
STATE = """
[state]
summary = "what becomes of accounts"
[parameters.domain]
type = "hostname"
doc = "The domain"
[parameters.accounts]
type = "list"
of = "table"
default = []
doc = "The accounts"
[file."HOST/{{ item.email }}"]
for_each = "{{ accounts }}"
content = "{{ item.password }}\\n"
mode = "0600"
"""


@pytest.fixture(scope="module")
def keys() -> Iterator[Owner]:
    """Somebody with a key for Ann and one for Bob, and with some that are good for nothing."""
    with tempfile.TemporaryDirectory(prefix="pgp") as folder:
        made = owner(Path(folder) / "home")
        try:
            made.make("ann@example.net")
            made.make("bob@example.net", expires="10d")
            made.make("signs@example.net", usage="")
            made.make("old@example.net", expires="20200201T000000", options=("--faked-system-time", "20200101T000000!"))
            made.revoke(made.make("gone@example.net"))
            yield made
        finally:
            made.close()


@pytest.fixture
def site(site: SiteFolder) -> SiteFolder:
    """A site with a state that reads accounts."""
    return site.files({"site.toml": SITE, "states/accounts/state.toml": STATE})


def add(site: SiteFolder, keys: Owner, name: str, *words: str, password: str = PASSWORD) -> Result:
    key = site.path.parent / f"{name.rpartition('@')[0].lower()}.asc"
    key.write_bytes(keys.public(name.lower()))
    return site.run("account", "add", name, "--key", str(key), "--password-stdin", *words, stdin=password + "\n")


def files(site: SiteFolder) -> set[str]:
    """All files of a site's accounts."""
    found = [*site.path.glob("accounts.d/*"), *site.path.glob("accounts.d/.*"), *site.path.glob("secrets/accounts/*")]
    return {str(path.relative_to(site.path)) for path in found}


def of(name: str) -> set[str]:
    """The files of one account."""
    return {f"accounts.d/{name}.toml", f"accounts.d/{name}.asc", f"secrets/accounts/{name}"}


def test_the_life_of_an_account(site: SiteFolder, keys: Owner) -> None:
    added = add(site, keys, "Ann@Example.net", "--alias", "info@example.net", "--alias", "INFO@example.net")
    assert added.code == 0, added.text
    assert "agent apply" in added.out
    assert "example.net, port 993" in added.out
    assert files(site) == of("ann@example.net")
    (row,) = tomllib.loads((site.path / "accounts.d/ann@example.net.toml").read_text())["values"]["accounts"]
    assert row == {
        "email": "ann@example.net",
        "key": str(site.path / "accounts.d/ann@example.net.asc"),
        "fingerprint": row["fingerprint"],
        "password": "{{ secrets['ann@example.net'] }}",
        "aliases": ["info@example.net"],
    }
    listing = keys.gpg("--with-colons", "--list-keys", "ann@example.net").decode()
    assert f"fpr:::::::::{row['fingerprint']}:" in listing
    modes = {path.stat().st_mode & 0o777 for path in (site.path / "secrets", site.path / "secrets/accounts")}
    assert modes == {0o700}
    assert (site.path / "secrets/accounts/ann@example.net").stat().st_mode & 0o777 == 0o600

    second = add(site, keys, "bob@example.net", "--alias", "info@example.net", "--json")
    assert (second.code, second.json["done"], second.json["next"]) == (0, "added", "agent apply"), second.text
    assert second.json["settings"]["imap"] == {"host": "example.net", "port": 993, "security": "TLS"}
    assert site.run("apply").code == 0
    hash = (site.host / "ann@example.net").read_text()
    assert re.fullmatch(r"\{ARGON2ID\}\$argon2id\$v=19\$m=65536,t=3,p=1\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+\n", hash)

    listed = site.run("account", "list", "--json").json["accounts"]
    assert [each["email"] for each in listed] == ["ann@example.net", "bob@example.net"]
    assert [each["problem"] for each in listed] == [None, None]
    assert listed[1]["warning"] == "expires in 9 days"
    assert "also info@example.net" in site.run("account", "list").out

    changed = site.run(
        "account", "passwd", "ann@example.net", "--password-hash-stdin", stdin="{SHA512}" + "x" * 86 + "=="
    )
    assert changed.code == 0, changed.text
    assert (site.path / "secrets/accounts/ann@example.net").read_text() == "{SHA512}" + "x" * 86 + "==\n"
    assert site.run("apply").code == 0
    assert (site.host / "ann@example.net").read_text().startswith("{SHA512}")

    removed = site.run("account", "remove", "ANN@example.net")
    assert removed.code == 0, removed.text
    assert "its mail stays" in removed.out
    assert files(site) == of("bob@example.net")
    again = site.run("account", "remove", "ann@example.net")
    assert (again.code, again.out) == (3, "")
    for path in [*site.path.rglob("*"), *site.state.rglob("*"), *site.host.rglob("*")]:
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


def test_a_key_is_renewed_and_replaced(site: SiteFolder, keys: Owner) -> None:
    def set_key() -> str:
        public = keys.public("ann@example.net", armor=False)
        (site.path.parent / "new").write_bytes(public)
        given = site.run("account", "key", "ann@example.net", "--key", str(site.path.parent / "new"), "--json")
        assert given.code == 0, given.text
        (row,) = site.run("account", "list", "--json").json["accounts"]
        assert (row["problem"], row["fingerprint"]) == (None, given.json["fingerprint"])
        return f"{row['fingerprint']} {row['expires']}"

    assert add(site, keys, "ann@example.net").code == 0
    (row,) = site.run("account", "list", "--json").json["accounts"]
    keys.gpg("--quick-set-expire", row["fingerprint"], "5y")
    keys.gpg("--quick-set-expire", row["fingerprint"], "5y", "*")
    renewed = set_key()
    assert renewed.startswith(row["fingerprint"])
    assert renewed != f"{row['fingerprint']} {row['expires']}"
    keys.gpg("--delete-secret-and-public-key", row["fingerprint"])
    keys.make("ann@example.net")
    assert not set_key().startswith(row["fingerprint"])
    assert (site.path / "accounts.d/ann@example.net.asc").read_text().count("BEGIN PGP") == 1
    assert site.run("validate").code == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("old@example.net", "expired on 2020-02-01"),
        ("gone@example.net", "was revoked"),
        ("signs@example.net", "can only sign"),
    ],
)
def test_keys_that_nothing_can_be_sealed_to(site: SiteFolder, keys: Owner, name: str, said: str) -> None:
    result = add(site, keys, name)
    assert (result.code, result.out) == (3, "")
    assert said in result.err
    assert "hint: " in result.err
    assert files(site) == set()


def test_files_that_hold_no_one_public_key(site: SiteFolder, keys: Owner) -> None:
    good = keys.public("ann@example.net", armor=False)
    for content, said in [
        (keys.private("ann@example.net"), "private key"),
        (keys.gpg("--export-secret-keys", "ann@example.net"), "private key"),
        (keys.public("ann@example.net") + keys.private("bob@example.net"), "private key"),
        (keys.public("ann@example.net", "bob@example.net"), "2 keys"),
        (keys.public("bob@example.net"), "no user id of this key has the address ann@example.net"),
        (good[:100], "cut off"),
        (good[:40] + bytes([good[40] ^ 1]) + good[41:], "gpg"),
        (b"", "no OpenPGP key"),
        (b"\x00" * 50, "no OpenPGP key"),
        (b"\xff" * (2 << 20), "too large"),
    ]:
        (site.path.parent / "key").write_bytes(content)
        words = ["--key", str(site.path.parent / "key"), "--password-stdin"]
        result = site.run("account", "add", "ann@example.net", *words, stdin=PASSWORD)
        assert (result.code, result.out) == (3, ""), said
        assert said in result.err
        assert "PRIVATE" not in result.err
    assert files(site) == set()
    for where, said in [("/nowhere", "No such file"), (str(site.path), "directory"), ("-", "only one thing")]:
        result = site.run("account", "add", "ann@example.net", "--key", where, "--password-stdin", stdin=PASSWORD)
        assert (result.code, said in result.err) == (3, True), result.err


def test_what_is_in_use_is_refused(site: SiteFolder, keys: Owner) -> None:
    site.write("accounts.d/hand.toml", '[[values.accounts]]\nemail = "Hand@example.net"\npassword = "x"\n')
    assert add(site, keys, "ann@example.net", "--alias", "info@example.net").code == 0
    before = {path: (site.path / path).read_bytes() for path in files(site)}
    for words, said in [
        (["ann@example.net"], "already"),
        (["hand@example.net"], "already"),
        (["info@example.net"], "an alias of ann@example.net"),
        (["bob@example.net", "--alias", "ANN@example.net"], "is an account"),
        (["bob@example.net", "--alias", "bob@example.net"], "alias of itself"),
        (["bob@example.net", "--alias", "x@example.org"], "not an address of example.net"),
        (["bob@example.org"], "not an address of example.net"),
        (["bob@sub.example.net"], "not an address of example.net"),
    ]:
        result = site.run("account", "add", *words, "--key", "/nowhere", "--password-stdin", stdin=PASSWORD)
        assert (result.code, result.out, said in result.err) == (3, "", True), result.err
    listed = {row["email"]: row["problem"] for row in site.run("account", "list", "--json").json["accounts"]}
    assert listed == {"ann@example.net": None, "hand@example.net": "no key is declared with it"}
    for words in (["passwd", "--password-stdin"], ["remove"], ["key", "--key", "/nowhere"]):
        result = site.run("account", *words, "hand@example.net", stdin=PASSWORD)
        assert (result.code, "by hand" in result.err) == (3, True), result.err
        result = site.run("account", *words, "anm@example.net", stdin=PASSWORD)
        assert (result.code, "did you mean ann@example.net?" in result.err) == (3, True), result.err
    assert {path: (site.path / path).read_bytes() for path in files(site)} == before


@pytest.mark.parametrize(
    "name",
    [
        "", "@", "ann", "@example.net", "ann@", "../ann@example.net", "a/b@example.net", "/etc/passwd@example.net",
        ".ann@example.net", "-ann@example.net", "ann.@example.net", "a..b@example.net", "ann@example.net/../x",
        "an n@example.net", "ann\n@example.net", "ann@example.net\n", "a\0nn@example.net", "a\"b@example.net",
        "a'b@example.net", "{{x}}@example.net", "grüße@example.net", "ann@exämple.net", "ann@example.net.",
        "ann+x@example.net", "ann@ann@example.net", "a" * 65 + "@example.net", "a@" + "b." * 130 + "net",
        "ann@-example.net", "\u212a@example.net",
    ],
)  # fmt: skip
def test_hostile_names(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        address(name)
    assert caught.value.exit_status == 3
    assert caught.value.summary.isprintable()


def test_names_in_one_spelling() -> None:
    for name in (
        "Ann@EXAMPLE.net",
        "a-b_c.d-@example.net",
        "_x@example.net",
        "7@xn--exmple-cua.net",
        "a" * 64 + "@b.net",
    ):
        assert address(name) == name.lower()


@given(st.one_of(st.text(), st.from_regex(r"[ -~]{0,9}@[ -~]{0,9}"), st.from_regex(r"[\w.+-]{1,9}@[\w.-]{1,9}")))
def test_any_text_is_a_plain_name_or_refused(text: str) -> None:
    try:
        name = address(text)
    except UsageError as error:
        assert error.summary.isprintable()
    else:
        assert re.fullmatch(r"[a-z0-9_][a-z0-9_.-]*@[a-z0-9-][a-z0-9.-]*[a-z0-9]|[a-z0-9_][a-z0-9_.-]*@[a-z0-9]", name)
        assert name == text.lower() == address(name)


@pytest.mark.parametrize(
    ("password", "said"), [("", "too short"), ("short", "too short"), ("a\nb" * 9, "one line"), ("x" * 2000, "at most")]
)
def test_passwords_that_are_none(site: SiteFolder, keys: Owner, password: str, said: str) -> None:
    result = add(site, keys, "ann@example.net", password=password)
    assert (result.code, said in result.err) == (3, True), result.err
    assert files(site) == set()


def test_a_hash_that_is_none(site: SiteFolder, keys: Owner) -> None:
    assert add(site, keys, "ann@example.net").code == 0
    for text in ("{PLAIN}" + "x" * 60, "x" * 60, "{ARGON2ID}", "{SHA512}" + "x" * 50 + "\n{SHA512}"):
        result = site.run("account", "passwd", "ann@example.net", "--password-hash-stdin", stdin=text)
        assert (result.code, "not the hash" in result.err) == (3, True), result.err
        assert text not in result.err
    result = site.run("account", "passwd", "ann@example.net")
    assert (result.code, "--password-stdin" in result.err) == (3, True), "nobody to ask, and nothing hangs"


def test_the_site_has_to_include_the_declaration(site: SiteFolder, keys: Owner) -> None:
    site.write("site.toml", SITE.replace("accounts.d/*.toml", "more/*.toml"))
    result = add(site, keys, "ann@example.net")
    assert result.code == 3
    assert 'include = ["more/*.toml", "accounts.d/*.toml"]' in result.err
    assert files(site) == set()


def test_a_site_that_would_be_wrong_is_left_as_it_was(site: SiteFolder, keys: Owner) -> None:
    refused = STATE + 'when = "{{ facts.no_such_fact }}"\n'
    site.write("states/accounts/state.toml", refused)
    assert add(site, keys, "ann@example.net").code == 3
    assert files(site) == set()
    site.write("states/accounts/state.toml", STATE)
    assert add(site, keys, "ann@example.net").code == 0
    before = {path: (site.path / path).read_bytes() for path in files(site)}
    needy = STATE + '[file."HOST/first"]\ncontent = "{{ accounts[0].email }}"\n'
    site.write("states/accounts/state.toml", needy)
    assert site.run("account", "remove", "ann@example.net").code == 3, "the site needs an account"
    assert {path: (site.path / path).read_bytes() for path in files(site)} == before


KILLED = """
import os
from agent.cli.main import main
from agent.host.files import Files

replace, left = Files.replace, [{after}]

def replaced(self, *words, **more):
    replace(self, *words, **more)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), 9)

Files.replace = replaced
main()
"""


def run_killed(site: SiteFolder, after: int, *words: str) -> None:
    """Run the command, and kill it right after it has replaced so many files."""
    script = [sys.executable, "-c", KILLED.format(after=after), *command(site, "account", *words)[3:]]
    ended = subprocess.run(script, env=environ(site), cwd=site.path, input=PASSWORD.encode(), check=False)
    assert ended.returncode == -9


@pytest.mark.parametrize("after", [1, 2])
def test_killed_between_two_keys(site: SiteFolder, keys: Owner, after: int) -> None:
    """Whichever key is declared, it is in the file."""
    keys.make("carl@example.net")
    (old,) = fingerprints(keys, "carl@example.net")
    assert add(site, keys, "carl@example.net").code == 0
    keys.gpg("--delete-secret-and-public-key", old)
    keys.make("carl@example.net")
    (new,) = fingerprints(keys, "carl@example.net")
    (site.path.parent / "new.asc").write_bytes(keys.public("carl@example.net"))
    run_killed(site, after, "key", "carl@example.net", "--key", "../new.asc")
    (row,) = site.run("account", "list", "--json").json["accounts"]
    assert (row["fingerprint"], row["problem"]) == (old if after == 1 else new, None)
    keys.gpg("--delete-secret-and-public-key", new)


def fingerprints(keys: Owner, name: str) -> list[str]:
    """The fingerprints of somebody's keys."""
    lines = keys.gpg("--with-colons", "--list-keys", name).decode().splitlines()
    return [lines[i + 1].split(":")[9] for i, line in enumerate(lines) if line.startswith("pub")]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_killed_between_files(site: SiteFolder, keys: Owner, after: int) -> None:
    (site.path.parent / "ann.asc").write_bytes(keys.public("ann@example.net"))
    run_killed(site, after, "add", "ann@example.net", "--key", "../ann.asc", "--password-stdin")
    assert site.run("validate").code == 0
    rows = site.run("account", "list", "--json").json["accounts"]
    assert [row["problem"] for row in rows] == ([None] if after == 3 else [])
    if after < 3:
        assert add(site, keys, "ann@example.net").code == 0
        assert files(site) == of("ann@example.net")
    else:
        assert site.run("apply").code == 0


def test_two_at_once(site: SiteFolder, keys: Owner) -> None:
    (site.path.parent / "ann.asc").write_bytes(keys.public("ann@example.net"))
    words = ["account", "add", "ann@example.net", "--key", "../ann.asc", "--password-stdin"]
    both = [start(site, *words, stdin=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(PASSWORD, timeout=120) for process in both]
    assert sorted(process.returncode for process in both) == [0, 3], said
    assert files(site) == of("ann@example.net")


def test_asked_for_on_a_terminal(site: SiteFolder, keys: Owner) -> None:
    (site.path.parent / "ann.asc").write_bytes(keys.public("ann@example.net"))
    words = command(site, "account", "add", "ann@example.net", "--key", str(site.path.parent / "ann.asc"))
    pid, terminal = pty.fork()
    if not pid:
        os.execve(words[0], words, environ(site))
    said = b""
    answers = iter([PASSWORD, PASSWORD + "!", PASSWORD, PASSWORD])
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:
            break
        if said.endswith((b"one is made): ", b"confirmation: ")):
            os.write(terminal, next(answers).encode() + b"\n")
            said += b"\n"
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
    assert PASSWORD.encode() not in said
    assert b"do not match" in said
    assert files(site) == of("ann@example.net")


def test_a_password_that_nobody_gave_is_made_and_named(site: SiteFolder, keys: Owner) -> None:
    key = site.path.parent / "ann.asc"
    key.write_bytes(keys.public("ann@example.net"))
    kept = site.path / "secrets/accounts/ann@example.net.password"

    def hash_and_password() -> tuple[str, str]:
        assert kept.stat().st_mode & 0o777 == 0o600
        return (site.path / "secrets/accounts/ann@example.net").read_text().strip(), kept.read_text().strip()

    added = site.run("account", "add", "ann@example.net", "--key", str(key))
    assert (added.code, str(kept) in added.out) == (0, True), added.text
    hash, password = hash_and_password()
    PasswordHasher().verify(hash.removeprefix("{ARGON2ID}"), password)
    changed = site.run("account", "passwd", "ann@example.net", "--generate-password", "--json")
    assert (changed.code, changed.json["password_file"]) == (0, str(kept)), changed.text
    other_hash, other = hash_and_password()
    PasswordHasher().verify(other_hash.removeprefix("{ARGON2ID}"), other)
    assert other != password
    assert password not in added.text
    assert other not in changed.text
    assert site.run("account", "passwd", "ann@example.net", "--password-stdin", stdin=PASSWORD).code == 0
    assert files(site) == of("ann@example.net")
    assert site.run("account", "passwd", "ann@example.net", "--generate-password").code == 0
    assert site.run("account", "remove", "ann@example.net").code == 0
    assert files(site) == set()


def test_mail_is_deleted_only_where_it_certainly_lies(site: SiteFolder, keys: Owner) -> None:
    boxes = site.host / "mail/boxes"
    for name in ("ann@example.net", "bob@example.net"):
        assert add(site, keys, name).code == 0
        (boxes / name / "cur").mkdir(parents=True)
        (boxes / name / "cur/1").write_text("x")
    (boxes / "ann@example.net/link").symlink_to(boxes / "bob@example.net")
    remove = ["account", "remove", "ann@example.net", "--delete-mail"]
    assert "does not say where mailboxes are" in site.run(*remove, "--yes").err

    parameter = '[parameters.{}]\ntype = "path"\ndoc = "x"\ndefault = "HOST/{}"\n'
    site.write("states/dovecot/state.toml", parameter.format("mailboxes", "mail/boxes"))
    site.write("states/mailstore/state.toml", parameter.format("path", "mail"))
    site.write("site.toml", SITE.replace('"accounts"', '"accounts", "dovecot", "mailstore"'))
    refused = site.run(*remove, "--yes")
    assert (refused.code, "is not mounted" in refused.err) == (1, True), refused.err
    site.write("site.toml", SITE.replace('"accounts"', '"accounts", "dovecot"'))
    refused = site.run(*remove)
    assert (refused.code, "--yes" in refused.err) == (3, True), refused.err
    assert len(files(site)) == 6
    boxes.rename(site.host / "elsewhere")
    boxes.symlink_to(site.host / "elsewhere")
    refused = site.run(*remove, "--yes")
    assert (refused.code, "symbolic link" in refused.err) == (1, True), refused.err
    boxes.unlink()
    (site.host / "elsewhere").rename(boxes)

    removed = site.run(*remove, "--yes")
    assert removed.code == 0, removed.text
    assert [path.name for path in boxes.iterdir()] == ["bob@example.net"]
    assert (boxes / "bob@example.net/cur/1").exists()
    kept = site.run("account", "remove", "bob@example.net")
    assert kept.code == 0
    assert (boxes / "bob@example.net/cur/1").exists()
    late = site.run("account", "remove", "bob@example.net", "--delete-mail", "--yes")
    assert late.code == 0, "its mail is what is left of it"
    assert not list(boxes.iterdir())


def test_a_resident_agent_takes_it_up(site: SiteFolder, keys: Owner) -> None:
    (site.state / "run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as resident:
        resident.bind(str(site.state / "run/agent.sock"))
        resident.listen()
        added = add(site, keys, "ann@example.net", "--json")
        assert (added.code, added.json["next"]) == (0, None), added.text
    removed = site.run("account", "remove", "ann@example.net")
    assert "agent apply" in removed.out, "the socket of one that was killed is not taken for it"


def test_completion(site: SiteFolder, keys: Owner) -> None:
    assert add(site, keys, "ann@example.net").code == 0
    line = f"agent account passwd --site {site.path}/site.toml a"
    words = {"_AGENT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "5"}
    site.environ.update(words)
    assert "ann@example.net" in site.run(site=None).out
