"""Sources of packages: the file, and a signature that the real apt checks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import ResourceError
from agent.host import Host
from agent.host.apt.dpkg import LISTS_STALE
from agent.resource import Change, Resource
from agent.resources.apt_source import AptSource

pytestmark = pytest.mark.inside

Converge = Callable[[Resource], Change | None]

HOME = Path("/var/lib/state-agent-test-source")
FILE = Path("/etc/apt/sources.list.d/sa-test.sources")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    HOME.mkdir()
    yield
    shutil.rmtree(HOME)
    FILE.unlink(missing_ok=True)


def declared(**fields: object) -> AptSource:
    given = {"uris": ["https://deb.example.org/debian"], "suites": ["trixie"], "components": ["main"]} | fields
    return AptSource(name="sa-test", **given)  # type: ignore[arg-type]


def test_file(converge: Converge, host: Host) -> None:
    change = converge(declared(architectures=["amd64"], signed_by="/usr/share/keyrings/debian-archive-keyring.gpg"))
    assert change is not None
    assert change.actual is None
    assert FILE.read_text() == (
        "Types: deb\nURIs: https://deb.example.org/debian\nSuites: trixie\nComponents: main\n"
        "Architectures: amd64\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    assert FILE.stat().st_mode & 0o7777 == 0o644
    assert LISTS_STALE in host.done


def test_second_time_nothing(converge: Converge, host: Host) -> None:
    converge(declared())
    host.done.clear()
    assert converge(declared()) is None
    assert host.done == set()


def test_drift_is_put_right(converge: Converge) -> None:
    converge(declared())
    FILE.chmod(0o600)
    change = converge(declared())
    assert change is not None
    assert [attribute.attribute for attribute in change.attributes] == ["mode"]
    FILE.write_text("Types: deb\n")
    assert converge(declared()) is not None


def test_disabled_and_removed(converge: Converge, host: Host) -> None:
    converge(declared(enabled=False))
    assert FILE.read_text().startswith("Enabled: no\n")
    host.done.clear()
    converge(AptSource(name="sa-test", ensure="absent"))
    assert not FILE.exists()
    assert LISTS_STALE in host.done


def test_undo(converge: Converge, host: Host) -> None:
    converge(declared())
    before = declared().read(host)
    converge(declared(suites=["sid"]))
    declared().undo(host, before)
    assert "Suites: trixie\n" in FILE.read_text()
    declared().undo(host, None)
    assert not FILE.exists()


def test_key_that_is_none(converge: Converge) -> None:
    (HOME / "key").write_text("hello")
    with pytest.raises(ResourceError, match="is not one"):
        converge(declared(key_source=str(HOME / "key")))
    with pytest.raises(ResourceError, match="cannot be read"):
        converge(declared(key_source=str(HOME / "nothing")))


def gpg(*words: str) -> bytes:
    home = HOME / "gnupg"
    home.mkdir(mode=0o700, exist_ok=True)
    command = ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", "--passphrase", "", *words]
    return subprocess.run(command, check=True, capture_output=True).stdout


def update() -> str:
    """What apt says of this source alone."""
    command = ["apt-get", "update", "-o", f"Dir::Etc::SourceList={FILE}", "-o", "Dir::Etc::SourceParts=-"]
    command += ["-o", f"Dir::State::Lists={HOME}/lists", "-o", "APT::Update::Error-Mode=any"]
    (HOME / "lists/partial").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    return done.stderr + (f"exit status {done.returncode}" if done.returncode else "")


@pytest.mark.skipif(not shutil.which("gpg"), reason="gpg is not installed: it makes the signature")
def test_apt_checks_the_signature(converge: Converge) -> None:
    gpg("--quick-generate-key", "one@example.org", "ed25519", "sign", "never")
    gpg("--quick-generate-key", "two@example.org", "ed25519", "sign", "never")
    archive = HOME / "archive"
    archive.mkdir()
    (archive / "Packages").write_text("")
    release = subprocess.run(["apt-ftparchive", "release", "."], cwd=archive, check=True, capture_output=True).stdout
    (HOME / "Release").write_bytes(release)
    gpg("-u", "one@example.org", "--clear-sign", "--output", str(archive / "InRelease"), str(HOME / "Release"))
    flat = {"uris": [f"file:{archive}"], "suites": ["./"], "components": []}

    converge(declared(**flat, key=gpg("--armor", "--export", "one@example.org").decode()))
    assert "\n .\n" in FILE.read_text()
    assert update() == ""

    (HOME / "key.gpg").write_bytes(gpg("--export", "one@example.org"))
    converge(declared(**flat, key_source=str(HOME / "key.gpg")))
    shutil.rmtree(HOME / "lists")
    assert update() == ""

    converge(declared(**flat, key=gpg("--armor", "--export", "two@example.org").decode()))
    shutil.rmtree(HOME / "lists")
    assert "exit status 100" in update()
