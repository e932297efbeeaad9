"""Packages through the real apt and dpkg, from a small archive of packages made here, without any network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.declaration.compile import compile_site
from agent.engine import Engine
from agent.errors import Missing, ResourceError
from agent.host import Host
from agent.host.apt import dpkg as dpkg_module
from agent.host.apt import get as aptget
from agent.host.apt import lists as aptlists
from agent.host.apt import locks as aptlock
from agent.host.apt.dpkg import LISTS_STALE
from agent.places import Places
from agent.resource import Change, Resource, differences
from agent.resources.apt import Apt
from agent.secret import SecretText

pytestmark = pytest.mark.inside

Converge = Callable[[Resource], Change | None]

HOME = Path("/var/lib/state-agent-test-archive")
SETTINGS = Path("/etc/apt/apt.conf.d/99state-agent-test")
HISTORY = Path("/var/log/apt/history.log")
CANARY = "canary-57-of-debconf"


class Archive:
    """Packages named sa-*, made on the spot; `publish` offers what `add` made."""

    def __init__(self) -> None:
        shutil.rmtree(HOME, ignore_errors=True)
        (HOME / "archive").mkdir(parents=True)
        (HOME / "sources.list.d").mkdir()
        (HOME / "lists/partial").mkdir(parents=True)
        (HOME / "sources.list").write_text(f"deb [trusted=yes] file:{HOME}/archive ./\n")
        SETTINGS.write_text(
            f'Dir::Etc::SourceList "{HOME}/sources.list";\nDir::Etc::SourceParts "{HOME}/sources.list.d";\n'
            f'Dir::State::Lists "{HOME}/lists/";\n'
        )

    def add(
        self,
        name: str,
        version: str = "1.0",
        *,
        arch: str = "all",
        files: dict[str, str] | None = None,
        scripts: dict[str, str] | None = None,
        conffiles: Sequence[str] = (),
        **fields: str,
    ) -> Path:
        tree = HOME / "build"
        shutil.rmtree(tree, ignore_errors=True)
        (tree / "DEBIAN").mkdir(parents=True)
        control = {"Package": name, "Version": version, "Architecture": arch, "Maintainer": "T <t@example.org>"}
        control |= {key.replace("_", "-"): value for key, value in fields.items()} | {"Description": "of a test"}
        (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
        if conffiles:
            (tree / "DEBIAN/conffiles").write_text("".join(f"{path}\n" for path in conffiles))
        for script, text in (scripts or {}).items():
            path = tree / "DEBIAN" / script
            path.write_text(textwrap.dedent(text))
            path.chmod(0o644 if script == "templates" else 0o755)
        for file, text in (files or {}).items():
            path = tree / file.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        package = HOME / "archive" / f"{name}_{version}_{arch}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, package], check=True, stdout=subprocess.DEVNULL)
        self.publish()
        return package

    def publish(self) -> None:
        folder = HOME / "archive"
        done = subprocess.run(["apt-ftparchive", "packages", "."], cwd=folder, check=True, capture_output=True)
        (folder / "Packages").write_bytes(done.stdout)
        # As after any change of sources: the next installation fetches the lists.
        (HOME / "sources.list").touch()


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr(aptlists, "LISTS", f"{HOME}/lists")
    monkeypatch.setattr(aptlists, "SOURCES", f"{HOME}/sources.list")
    locks = (*aptlock.LOCKS[:3], f"{HOME}/lists/lock")
    monkeypatch.setattr(aptlock, "LOCKS", locks)
    archive = Archive()
    yield archive
    SETTINGS.unlink()
    query = ["dpkg-query", "-W", "-f", "${Package}:${Architecture}\n", "sa-*"]
    ours = subprocess.run(query, check=False, capture_output=True, text=True)
    for name in ours.stdout.split():
        # What is made to fail on purpose must not stay in the way.
        for script in Path("/var/lib/dpkg/info").glob(f"{name.split(':')[0]}*.*rm"):
            script.unlink()
        command = ["dpkg", "--purge", "--force-all", name.removesuffix(":all")]
        subprocess.run(command, check=False, capture_output=True)
    shutil.rmtree(HOME)


@pytest.fixture
def lines(host: Host) -> list[str]:
    shown: list[str] = []
    host.progress = shown.append
    return shown


def version_of(name: str) -> str:
    command = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", name]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    return "" if said.startswith("un") else said


def group(host: Host, *resources: Apt) -> dict[str, Exception]:
    """Apply several at once as the engine does."""
    items: list[tuple[Apt, Change]] = []
    for resource in resources:
        change = differences(resource.read(host), resource.desired(host))
        if change is not None:
            items.append((resource, change))
    return dict(Apt.apply_group(host, items))


def settled(host: Host, *resources: Apt) -> bool:
    host.forget()
    return all(differences(resource.read(host), resource.desired(host)) is None for resource in resources)


def transactions() -> int:
    return HISTORY.read_text().count("Start-Date:") if HISTORY.exists() else 0


# --- installing and removing -------------------------------------------------------------------------------------


def test_install_then_nothing_to_do(archive: Archive, converge: Converge, host: Host, lines: list[str]) -> None:
    archive.add("sa-tool", "1.0")
    change = converge(Apt(name="sa-tool"))
    assert change is not None
    assert change.actual is None
    assert version_of("sa-tool") == "ii  1.0"
    assert converge(Apt(name="sa-tool")) is None
    assert any(line.startswith("installing sa-tool (") for line in lines)


def test_unchanged_package_starts_no_process(
    archive: Archive, converge: Converge, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add("sa-tool", "1.0")
    converge(Apt(name="sa-tool"))

    def forbidden(*words: Any, **options: Any) -> None:
        raise AssertionError(words)

    monkeypatch.setattr(dpkg_module, "run", forbidden)
    resources = [Apt(name="sa-tool"), Apt(name="sa-tool", version=">=1", hold=False), Apt(name="gone", ensure="absent")]
    Apt.prefetch(host, resources)
    assert settled(host, *resources)


def test_summary_of_a_plan(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-tool", "1.0")
    converge(Apt(name="sa-tool"))
    archive.add("sa-tool", "1.2")
    archive.add("sa-other", "2.11.0~beta2-9.1+b1")
    subprocess.run(["apt-get", "update"], check=True, capture_output=True)

    def plan(resource: Apt) -> str:
        host.forget()
        Apt.prefetch(host, [resource])
        change = differences(resource.read(host), resource.desired(host))
        return resource.summary(host, change) if change else "nothing"

    assert plan(Apt(name="sa-other")) == "install 2.11.0~beta2-9.1+b1"
    assert plan(Apt(name="sa-nowhere")) == "install"
    assert plan(Apt(name="sa-tool", ensure="latest")) == "upgrade 1.0 → 1.2"
    assert plan(Apt(name="sa-tool", version="=1.2*", hold=True)) == "upgrade 1.0 → 1.2, hold"
    assert plan(Apt(name="sa-tool", ensure="purged")) == "purge 1.0"
    assert plan(Apt(name="both", packages=["sa-tool", "sa-other"])) == "install sa-other 2.11.0~beta2-9.1+b1"


def test_many_in_one_transaction(archive: Archive, host: Host, converge: Converge) -> None:
    for name in ("sa-a", "sa-b", "sa-c", "sa-old"):
        archive.add(name)
    converge(Apt(name="sa-old"))
    before = transactions()
    wanted = [Apt(name="sa-a"), Apt(name="more", packages=["sa-b", "sa-c"]), Apt(name="sa-old", ensure="absent")]
    assert group(host, *wanted) == {}
    assert settled(host, *wanted)
    assert transactions() == before + 1


def test_unknown_package_fails_alone(archive: Archive, host: Host) -> None:
    archive.add("sa-a")
    archive.add("sa-broken", Depends="sa-nowhere")
    some = Apt(name="some", packages=["sa-a", "sa-z"])
    wanted = Apt(name="sa-a"), Apt(name="sa-never"), Apt(name="sa-broken"), some
    errors = group(host, *wanted)
    assert set(errors) == {"apt:sa-never", "apt:sa-broken", "apt:some"}
    assert "apt knows no package sa-never" in str(errors["apt:sa-never"])
    assert "sa-nowhere" in str(errors["apt:sa-broken"])
    assert settled(host, wanted[0])


def test_a_check_says_what_apt_does_not_know_where_its_lists_can_tell(archive: Archive, tmp_path: Path) -> None:
    def checked(states: str = "") -> dict[str, tuple[str, str]]:
        site = tmp_path / "site.toml"
        text = '[apt.sa-a]\n[apt.sa-never]\n[apt.sa-b]\nversion = "=9"\n[apt.sa-virtual]\n'
        site.write_text(f"[site]\nstates = [{states}]\n{text}")
        report = Engine(compile_site(site, None)[0], Places(tmp_path, tmp_path)).check()
        return {step.id: (step.outcome, step.error or "") for step in report.steps}

    (tmp_path / "states/more").mkdir(parents=True)
    source = '[state]\nsummary = "More"\n[file."/etc/apt/sources.list.d/sa-more.list"]\ncontent = ""\n'
    (tmp_path / "states/more/state.toml").write_text(source)
    archive.add("sa-a", Provides="sa-virtual")
    archive.add("sa-b")
    archive.publish()
    assert {outcome for outcome, _ in checked().values()} == {"would-add"}, "there are no lists yet"
    subprocess.run(["apt-get", "update"], check=True, capture_output=True)
    found = checked()
    assert {id: outcome for id, (outcome, _) in found.items()} == {
        "apt:sa-a": "would-add", "apt:sa-never": "failed", "apt:sa-b": "failed", "apt:sa-virtual": "would-add",
    }  # fmt: skip
    assert "apt knows no package sa-never" in found["apt:sa-never"][1]
    assert "no source offers sa-b in version =9" in found["apt:sa-b"][1]
    assert checked('"more"')["apt:sa-never"][0] == "would-add", "a source is still to come"
    then = time.time() - 90000
    os.utime(HOME / "sources.list", (then, then))
    os.utime(HOME / "lists/partial", (then, then))
    assert {outcome for outcome, _ in checked().values()} == {"would-add"}, "they would be fetched anew"


def test_absent_keeps_configuration_and_purged_does_not(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-conf", files={"/etc/sa-conf": "one\n"}, conffiles=["/etc/sa-conf"])
    converge(Apt(name="sa-conf"))
    assert converge(Apt(name="sa-conf", ensure="absent")) is not None
    assert version_of("sa-conf").startswith("rc")
    assert converge(Apt(name="sa-conf", ensure="absent")) is None
    assert Apt(name="sa-conf").read(host) is None
    assert converge(Apt(name="sa-conf", ensure="purged")) is not None
    assert not Path("/etc/sa-conf").exists()
    converge(Apt(name="sa-conf"))
    converge(Apt(name="sa-conf", ensure="purged"))
    assert not Path("/etc/sa-conf").exists()


def test_recommends_only_where_declared(archive: Archive, host: Host) -> None:
    archive.add("sa-extra")
    archive.add("sa-extra2")
    archive.add("sa-a", Recommends="sa-extra")
    archive.add("sa-b", Recommends="sa-extra2")
    before = transactions()
    assert group(host, Apt(name="sa-a"), Apt(name="sa-b", recommends=True)) == {}
    assert version_of("sa-extra") == ""
    assert version_of("sa-extra2") == "ii  1.0"
    assert transactions() == before + 2


def test_virtual_package_is_there_through_a_provider(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-mta", Provides="sa-transport")
    change = converge(Apt(name="sa-transport"))
    assert change is not None
    assert version_of("sa-mta") == "ii  1.0"
    assert settled(host, Apt(name="sa-transport"))
    archive.add("sa-mta2", Provides="sa-smtp")
    archive.add("sa-mta3", Provides="sa-smtp")
    with pytest.raises(ResourceError, match="sa-smtp"):
        converge(Apt(name="sa-smtp"))


def test_foreign_architecture(archive: Archive, converge: Converge, host: Host) -> None:
    subprocess.run(["dpkg", "--add-architecture", "armhf"], check=True)
    try:
        archive.add("sa-lib", arch="armhf", Multi_Arch="same")
        host.done.add(LISTS_STALE)
        converge(Apt(name="sa-lib:armhf"))
        assert Apt(name="sa-lib").read(host) is None
        converge(Apt(name="sa-lib:armhf", ensure="purged"))
    finally:
        subprocess.run(["dpkg", "--remove-architecture", "armhf"], check=True)


# --- versions and holds ------------------------------------------------------------------------------------------


def test_versions(archive: Archive, host: Host, converge: Converge) -> None:
    for version in ("1.1-1", "1.2.9-1", "1.2.10-1", "1.3-1"):
        archive.add("sa-tool", version)
    converge(Apt(name="sa-tool", version="=1.2*"))
    assert version_of("sa-tool") == "ii  1.2.10-1"
    assert converge(Apt(name="sa-tool", version=">=1.1")) is None
    converge(Apt(name="sa-tool", version="=1.1-1"))
    assert version_of("sa-tool") == "ii  1.1-1"
    converge(Apt(name="sa-tool", version=">=1.3"))
    assert version_of("sa-tool") == "ii  1.3-1"
    with pytest.raises(ResourceError, match="in version =2") as caught:
        converge(Apt(name="sa-tool", version="=2*"))
    assert "1.2.10-1" in str(caught.value)


def test_present_never_upgrades_and_latest_does(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-a", "1.0")
    archive.add("sa-b", "1.0")
    converge(Apt(name="sa-a", ensure="latest"))
    archive.add("sa-a", "1.1")
    archive.add("sa-b", "1.1")
    assert settled(host, Apt(name="sa-a", ensure="latest")), "reading must not fetch lists"
    converge(Apt(name="both", packages=["sa-a", "sa-b"]))
    assert (version_of("sa-a"), version_of("sa-b")) == ("ii  1.0", "ii  1.1")
    change = converge(Apt(name="sa-a", ensure="latest"))
    assert change is not None
    assert version_of("sa-a") == "ii  1.1"


def test_release(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-a")
    with pytest.raises(Missing, match="sa-backports"):
        converge(Apt(name="sa-a", release="sa-backports"))


def test_hold(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-a", "1.0")
    converge(Apt(name="sa-a", hold=True))
    assert version_of("sa-a") == "hi  1.0"
    assert converge(Apt(name="sa-a")) is None
    archive.add("sa-a", "1.1")
    with pytest.raises(ResourceError, match="on hold"):
        converge(Apt(name="sa-a", version="=1.1"))
    converge(Apt(name="sa-a", version="=1.1", hold=True))
    assert version_of("sa-a") == "hi  1.1"
    with pytest.raises(ResourceError, match="on hold"):
        converge(Apt(name="sa-a", ensure="absent"))
    converge(Apt(name="sa-a", hold=False))
    assert version_of("sa-a") == "ii  1.1"


def test_hold_of_others_is_respected(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-held", "1.0")
    archive.add("sa-own", "1.0")
    converge(Apt(name="sa-held", hold=True))
    converge(Apt(name="sa-own", hold=True))
    archive.add("sa-held", "2.0")
    archive.add("sa-own", "2.0")
    archive.add("sa-user", Depends="sa-held (>= 2.0)")
    errors = group(host, Apt(name="sa-user"), Apt(name="sa-own", hold=True, version="=2.0"))
    assert set(errors) == {"apt:sa-user"}
    assert (version_of("sa-held"), version_of("sa-own")) == ("hi  1.0", "hi  2.0")


# --- what maintainer scripts do ----------------------------------------------------------------------------------


def test_changed_conffile_is_kept_without_a_question(archive: Archive, host: Host, converge: Converge) -> None:
    file = Path("/etc/sa-conf")
    archive.add("sa-conf", "1", files={str(file): "one\n"}, conffiles=[str(file)])
    converge(Apt(name="sa-conf"))
    file.write_text("mine\n")
    archive.add("sa-conf", "2", files={str(file): "two\n"}, conffiles=[str(file)])
    converge(Apt(name="sa-conf", version="=2"))
    assert file.read_text() == "mine\n"
    file.write_text("two\n")
    archive.add("sa-conf", "3", files={str(file): "three\n"}, conffiles=[str(file)])
    converge(Apt(name="sa-conf", version="=3"))
    assert file.read_text() == "three\n"
    Path("/etc/sa-conf.dpkg-dist").unlink(missing_ok=True)


def test_debconf_answers(archive: Archive, host: Host, converge: Converge, lines: list[str]) -> None:
    archive.add(
        "sa-asks",
        scripts={
            "templates": "Template: sa-asks/name\nType: string\nDefault: nobody\nDescription: name\n\n"
            "Template: sa-asks/pass\nType: password\nDescription: pass\n",
            "config": "#!/bin/sh -e\n. /usr/share/debconf/confmodule\ndb_input critical sa-asks/name || true\ndb_go\n",
            "postinst": "#!/bin/sh -e\n. /usr/share/debconf/confmodule\ndb_get sa-asks/name\n"
            'echo "$RET" >/etc/sa-asked\ndb_get sa-asks/pass\necho "$RET" >>/etc/sa-asked\n',
            "postrm": "#!/bin/sh\nrm -f /etc/sa-asked\n",
        },
    )
    secret = SecretText(("password ", "key", "")).bound(lambda name: CANARY)
    resource = Apt(name="sa-asks", debconf={"sa-asks/name": "string Sally Ride", "sa-asks/pass": secret})
    started = time.time()
    change = converge(resource)
    assert Path("/etc/sa-asked").read_text() == f"Sally Ride\n{CANARY}\n"
    assert CANARY not in repr((resource, change, resource._request(host))) + json.dumps(lines)
    for folder in ("/var/log", "/var/lib/dpkg", "/var/lib/apt"):
        for path in Path(folder).rglob("*"):
            if path.is_file() and path.stat().st_mtime >= started:
                assert CANARY.encode() not in path.read_bytes(), path


def test_failing_postinst_fails_alone(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-bad", "1", scripts={"postinst": "#!/bin/sh\necho trying\necho no such luck >&2\nexit 7\n"})
    archive.add("sa-user", Depends="sa-bad")
    archive.add("sa-good")
    errors = group(host, Apt(name="sa-user"), Apt(name="sa-bad"), Apt(name="sa-good"))
    assert set(errors) == {"apt:sa-bad", "apt:sa-user"}
    assert "no such luck" in str(errors["apt:sa-bad"])
    assert "trying" in str(errors["apt:sa-bad"])
    assert "exit status 7" in str(errors["apt:sa-bad"])
    assert Apt(name="sa-bad").read(host) == {"sa-bad": "half-configured", "on hold": False}
    assert settled(host, Apt(name="sa-good"))
    archive.add("sa-bad", "2")
    assert group(host, Apt(name="sa-bad"), Apt(name="sa-user")) == {}
    assert settled(host, Apt(name="sa-bad"), Apt(name="sa-user"))


def test_failing_removal(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-stays", scripts={"prerm": "#!/bin/sh\necho never >&2\nexit 3\n"})
    converge(Apt(name="sa-stays"))
    with pytest.raises(ResourceError, match="sa-stays") as caught:
        converge(Apt(name="sa-stays", ensure="absent"))
    assert "never" in str(caught.value)


def test_file_missing_from_the_archive(archive: Archive, host: Host) -> None:
    lost = archive.add("sa-lost")
    archive.add("sa-good")
    lost.unlink()
    errors = group(host, Apt(name="sa-good"), Apt(name="sa-lost"))
    assert set(errors) == {"apt:sa-lost"}
    assert "sa-lost_1.0_all.deb" in str(errors["apt:sa-lost"])
    assert settled(host, Apt(name="sa-good"))


# --- nothing that was not asked for ------------------------------------------------------------------------------


def test_nothing_else_is_removed(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-base")
    archive.add("sa-user", Depends="sa-base")
    archive.add("sa-rival", Conflicts="sa-user")
    converge(Apt(name="sa-user"))
    with pytest.raises(ResourceError, match="would also remove sa-user"):
        converge(Apt(name="sa-base", ensure="absent"))
    with pytest.raises(ResourceError, match="would also remove sa-user"):
        converge(Apt(name="sa-rival"))
    assert group(host, Apt(name="sa-rival"), Apt(name="sa-user", ensure="purged")) == {}
    assert version_of("sa-rival") == "ii  1.0"
    assert version_of("sa-user") == ""
    assert version_of("sa-base") == "ii  1.0", "dependencies are never removed by themselves"


def test_rivals_cannot_both_be_there(archive: Archive, host: Host) -> None:
    archive.add("sa-one", Conflicts="sa-two")
    archive.add("sa-two")
    archive.add("sa-three")
    errors = group(host, Apt(name="sa-one"), Apt(name="sa-two"), Apt(name="sa-three"))
    assert set(errors) == {"apt:sa-two"}
    assert settled(host, Apt(name="sa-one"), Apt(name="sa-three"))


def test_undo(archive: Archive, host: Host, converge: Converge) -> None:
    archive.add("sa-a", "1.0")
    archive.add("sa-b", "1.0")
    converge(Apt(name="sa-b"))
    both = Apt(name="both", packages=["sa-a", "sa-b"], hold=True)
    before = both.read(host)
    converge(both)
    host.forget()
    both.undo(host, before)
    assert (version_of("sa-a")[:2], version_of("sa-b")) == ("", "ii  1.0")
    gone = Apt(name="sa-b", ensure="absent")
    before = gone.read(host)
    converge(gone)
    gone.undo(host, before)
    assert version_of("sa-b") == "ii  1.0"
    archive.add("sa-b", "1.1")
    newer = Apt(name="sa-b", version="=1.1")
    before = newer.read(host)
    converge(newer)
    with pytest.raises(ResourceError, match="stays in its new version"):
        newer.undo(host, before)
    newer.undo(host, None)
    assert version_of("sa-b") == ""


# --- locks, interruptions, lists ---------------------------------------------------------------------------------

HOLDER = """
import fcntl, sys, time
with open(sys.argv[1], "a") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold_lock(path: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, path, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("number", range(4))
def test_waits_for_a_lock(archive: Archive, host: Host, converge: Converge, lines: list[str], number: int) -> None:
    archive.add("sa-a")
    with hold_lock(aptlock.LOCKS[number], 1.5) as process:
        converge(Apt(name="sa-a"))
    waits = [line for line in lines if line.startswith("waiting for ")]
    assert len(waits) == 1
    assert "held by python" in waits[0]
    assert waits[0].endswith(f"(pid {process.pid})")


def test_lock_taken_in_between(
    archive: Archive, host: Host, converge: Converge, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add("sa-a")
    monkeypatch.setattr(aptget, "wait_for_locks", lambda progress, limit: None)
    with hold_lock("/var/cache/apt/archives/lock", 3):
        converge(Apt(name="sa-a"))


def test_gives_up_on_a_lock(archive: Archive, host: Host, converge: Converge, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.add("sa-a")
    monkeypatch.setattr(aptget, "LIMIT", 0.5)
    process = hold_lock("/var/lib/dpkg/lock-frontend", 60)
    try:
        with pytest.raises(ResourceError, match=r"gave up after waiting 0\.5 s for the dpkg lock held by python"):
            converge(Apt(name="sa-a"))
    finally:
        process.kill()
        process.communicate()


def test_interrupted_dpkg(archive: Archive, host: Host, converge: Converge, lines: list[str]) -> None:
    package = archive.add("sa-half")
    archive.add("sa-a")
    subprocess.run(["dpkg", "--unpack", package], check=True, capture_output=True)
    status = Path("/var/lib/dpkg/status").read_text().split("\n\n")
    stanza = next(part for part in status if part.startswith("Package: sa-half\n"))
    Path("/var/lib/dpkg/updates/0000").write_text(stanza + "\n")
    converge(Apt(name="sa-a"))
    assert any("interrupted dpkg" in line for line in lines)
    assert version_of("sa-half") == "ii  1.0"


def test_half_done_package_is_repaired(archive: Archive, host: Host, converge: Converge) -> None:
    package = archive.add("sa-half")
    subprocess.run(["dpkg", "--unpack", package], check=True, capture_output=True)
    resource = Apt(name="sa-half")
    change = differences(resource.read(host), resource.desired(host))
    assert change is not None
    assert resource.summary(host, change) == "repair (unpacked)"
    converge(resource)


def test_lists_are_fetched_only_when_needed(archive: Archive, host: Host, lines: list[str]) -> None:
    def fetched() -> int:
        return sum(line.startswith("fetching the lists") for line in lines)

    archive.add("sa-a", "1")
    archive.add("sa-b", "1")
    assert group(host, Apt(name="sa-a")) == {}
    assert fetched() == 1, "there are none"
    host.done.clear()
    assert group(host, Apt(name="sa-b")) == {}
    assert fetched() == 1, "they are fresh"
    host.done.clear()
    archive.add("sa-c", "1")
    then = time.time() - 3600
    os.utime(HOME / "sources.list", (then, then))
    assert group(host, Apt(name="sa-c")) == {}
    assert fetched() == 2, "the package is missing from them"
    host.done.clear()
    archive.add("sa-d", "1")
    os.utime(HOME / "sources.list", (then, then))
    subprocess.run(["apt-get", "update"], check=True, capture_output=True)
    then -= 90000
    os.utime(HOME / "lists/partial", (then, then))
    assert group(host, Apt(name="sa-d")) == {}
    assert fetched() == 3, "they are older than a day"
    host.done = {LISTS_STALE}
    assert group(host, Apt(name="sa-a", version=">=1"), Apt(name="sa-b", ensure="absent")) == {}
    assert fetched() == 3, "nothing is installed"
