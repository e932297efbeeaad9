"""Pure logic of packages: dpkg's status, versions, apt's answers, debconf answers and keys."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path

import pytest

from agent.errors import Missing
from agent.host.apt.debconf import answer_line
from agent.host.apt.dpkg import Dpkg, Policy, _policies
from agent.host.apt.get import split_status, status_text
from agent.host.apt.versions import matches, newest, version_key, version_pattern
from agent.host.openpgp.armor import armored, problem_of_key
from agent.resources.apt import Apt
from agent.resources.apt_source import AptSource
from agent.secret import SecretText

STATUS = """\
Package: dpkg
Essential: yes
Status: install ok installed
Architecture: amd64
Version: 1.22.21

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.41-12
Provides: libc6-2.41 (= 2.41-12)
Description: library
 Package: nothing
 .
 Status: deinstall ok config-files

Package: libc6
Status: install ok half-configured
Architecture: armhf
Multi-Arch: same
Version: 2.41-11

Package: tree
Status: hold ok installed
Architecture: amd64
Version: 2.2.1-1
Conffiles:
 /etc/tree 1234

Package: exim4-daemon-light
Status: deinstall ok config-files
Architecture: amd64
Provides: mail-transport-agent
Version: 4.98

Package: postfix
Status: install ok installed
Provides: default-mta, mail-transport-agent (= 1), smtpd:any
Architecture: all
Version: 3.10.1-1
"""


@pytest.fixture
def dpkg(tmp_path: Path) -> Dpkg:
    status = tmp_path / "status"
    status.write_text(STATUS)
    return Dpkg(lambda _text: None, str(status))


def test_installed_package(dpkg: Dpkg) -> None:
    package = dpkg.package("libc6")
    assert package is not None
    assert (package.version, package.architecture, package.installed, package.held) == ("2.41-12", "amd64", True, False)


def test_foreign_architecture_is_another_package(dpkg: Dpkg) -> None:
    package = dpkg.package("libc6:armhf")
    assert package is not None
    assert (package.version, package.status, package.installed) == ("2.41-11", "half-configured", False)
    assert dpkg.package("tree:armhf") is None


def test_own_architecture_can_be_named(dpkg: Dpkg) -> None:
    assert dpkg.package("tree:amd64") == dpkg.package("tree")
    assert dpkg.plain("tree:amd64") == "tree"


def test_hold_and_config_files(dpkg: Dpkg) -> None:
    assert dpkg.is_held("tree")
    assert not dpkg.is_held("libc6")
    assert dpkg.is_gone("exim4-daemon-light")
    assert dpkg.is_gone("never-heard-of")


def test_only_installed_packages_provide(dpkg: Dpkg) -> None:
    assert dpkg.provided("mail-transport-agent")
    assert dpkg.provided("smtpd")
    assert dpkg.provided("libc6-2.41")
    assert not dpkg.provided("postfix")


def test_without_dpkg(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        Dpkg(lambda _text: None, str(tmp_path / "none")).package("tree")


def test_order_of_versions() -> None:
    # The last one is the highest; from deb-version(7) and dpkg's own tests.
    order = [
        "1.0~~",
        "1.0~~a",
        "1.0~",
        "1.0",
        "1.0-0.1",
        "1.0-1",
        "1.0-1+b1",
        "1.0a",
        "1.0+",
        "1.0.1",
        "1.9",
        "1.10",
        "1:0.1",
        "2:0",
    ]
    assert [version_key(a) < version_key(b) for a, b in itertools.pairwise(order)] == [True] * (len(order) - 1)
    assert version_key("1.0") == version_key("1.0-0") == version_key("0:1.00")
    assert newest(reversed(order)) == "2:0"
    assert newest([]) is None


@pytest.mark.parametrize(
    ("version", "pattern", "expected"),
    [
        ("1.2.3-1", "=1.2*", True),
        ("1.3", "=1.2*", False),
        ("1.2", "=1.2", True),
        ("1.2-1", "=1.2", False),
        ("1.10", ">=1.2", True),
        ("1.2~rc1", ">=1.2", False),
        ("1:0.1", ">=9", True),
    ],
)
def test_matching(version: str, pattern: str, expected: bool) -> None:
    assert matches(version, pattern) is expected


@pytest.mark.parametrize("text", ["1.2", "<1.2", ">=1.2*", "=", "= 1.2 x", "=-y"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        version_pattern(text)


def test_choice_of_a_version() -> None:
    policy = Policy("3.0", ("3.0", "2.10", "2.9"))
    assert policy.choice(None) == "3.0"
    assert policy.choice("=2.*") == "2.10"
    assert policy.choice(">=2") == "3.0"
    assert policy.choice("=4*") is None


def test_answers_of_apt_cache() -> None:
    text = """\
postfix:
  Installed: (none)
  Candidate: 3.10.4-1
  Version table:
     3.10.4-1 500
        500 http://archive.example.net/debian trixie/main amd64 Packages
 *** 3.10.1-1 100
        100 /var/lib/dpkg/status
libc6:armhf:
  Installed: (none)
  Candidate: (none)
  Version table:
"""
    assert _policies(text) == {"postfix": Policy("3.10.4-1", ("3.10.4-1", "3.10.1-1")), "libc6:armhf": Policy(None, ())}


def test_progress_lines() -> None:
    assert status_text("pmstatus", "postfix:45.0000:Installing postfix (amd64)") == "installing postfix (45 %)"
    assert status_text("dlstatus", "1:7.6:Retrieving file 1 of 2") == "retrieving file 1 of 2 (8 %)"
    assert status_text("pmconffile", "/etc/x:1:'a' 'b'") == ""
    assert status_text("nonsense", "") == ""
    assert split_status("libc6:armhf:12.5:half: done") == ("libc6:armhf", "12.5", "half: done")


def test_debconf_owner() -> None:
    assert answer_line(["postfix"], "postfix/mailname", "string x") == "postfix postfix/mailname string x"
    assert answer_line(["a:armhf", "b"], "shared/x", "boolean true") == "a shared/x boolean true"


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"name": "Postfix"}, "not the name of a package"),
        ({"name": "x", "packages": []}, "empty"),
        ({"name": "x", "packages": ["aa", "bb"], "version": "=1"}, "one package"),
        ({"name": "xx", "ensure": "absent", "hold": True}, "hold has no meaning"),
        ({"name": "xx", "debconf": {"question": "string x"}}, "not a question"),
        ({"name": "xx", "debconf": {"xx/question": "x"}}, "type value"),
        ({"name": "xx", "debconf": {"xx/question": SecretText(("pass ", "key", ""))}}, "type value"),
        ({"name": "xx", "release": "-o x"}, "not the name of a release"),
    ],
)
def test_problems_of_apt(fields: dict[str, object], part: str) -> None:
    found = list(Apt(**fields).problems())  # type: ignore[arg-type]
    assert len(found) == 1
    assert part in found[0]


def test_labels_and_secrets_are_no_problem() -> None:
    answer = SecretText(("password ", "key", ""))
    resource = Apt(name="Any label", packages=["g++", "libc6:armhf"], debconf={"a/b": answer})
    assert list(resource.problems()) == []


KEY = b"\xc6\x33\x04" + bytes(range(60))


def test_keys() -> None:
    text = armored(KEY)
    assert problem_of_key(KEY) == problem_of_key(text.encode()) == ""
    assert base64.b64decode("".join(text.splitlines()[2:-2])) == KEY
    assert armored(text.encode()) == text
    assert "private" in problem_of_key(b"\x95" + KEY)
    assert "private" in problem_of_key(b"-----BEGIN PGP PRIVATE KEY BLOCK-----")
    assert "begins with" in problem_of_key(b"hello")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"name": "a b"}, "cannot name a file"),
        ({"uris": []}, "uris is needed"),
        ({"uris": ["example.org"]}, "not a URI"),
        ({"components": []}, "components is needed"),
        ({"suites": ["./"]}, "has no components"),
        ({"suites": ["a\nTrusted: yes"]}, "cannot stand there"),
        ({"key": "nothing"}, "begins with"),
        ({"key_source": "/x", "signed_by": "/y"}, "only one of"),
    ],
)
def test_problems_of_apt_source(change: dict[str, object], part: str) -> None:
    fields = {"name": "x", "uris": ["http://a.example/"], "suites": ["trixie"], "components": ["main"]} | change
    found = list(AptSource(**fields).problems())  # type: ignore[arg-type]
    assert len(found) == 1
    assert part in found[0]
