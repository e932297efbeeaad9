"""Encrypted folders, by the real gocryptfs and FUSE."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from residence import Residence

from agent.declaration.schema import validated
from agent.engine.plan import Past, Planner, block_all
from agent.errors import Missing, NotPermitted, ResourceError
from agent.graph import Entry, Graph
from agent.host import Host, gocryptfs, mounts
from agent.resource import Change, Resource, differences
from agent.resources.directory import Directory
from agent.resources.gocryptfs import Gocryptfs
from agent.secret import SecretText

Converge = Callable[[Resource], Change | None]

CANARY = "canary 7f3a-passphrase"
FAST = "-scryptn=10"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts for others"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no FUSE here (/dev/fuse)"),
]


def secret(value: str = CANARY) -> SecretText:
    return SecretText(("", "mailstore", ""), lambda _name: value)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nothing is mounted in, and nothing immutable is left in, afterwards."""
    yield tmp_path
    for mount in reversed(mounts.Mounts().all):
        if mount.path.startswith(f"{tmp_path}/"):
            subprocess.run(["umount", "--lazy", mount.path], check=False)
    subprocess.run(["chattr", "-R", "-i", str(tmp_path)], check=False, capture_output=True)


@pytest.fixture
def declared(folder: Path) -> Gocryptfs:
    return Gocryptfs(name=f"{folder}/plain", cipher=f"{folder}/cipher", passphrase=secret(), options=[FAST])


@pytest.fixture
def converge(converge: Converge, host: Host) -> Converge:
    """The same, by a host that remembers nothing of what the test did in between."""

    def bring(resource: Resource) -> Change | None:
        host.forget()
        return converge(resource)

    return bring


def daemons(path: str) -> list[int]:
    """The processes that serve the mount at this path, or did and are about to end."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text() == "gocryptfs\n" and path in (process / "cmdline").read_text().split(
                "\0"
            ):
                found.append(int(process.name))
    return found


def daemon(path: str) -> int:
    """The process that serves the mount at this path."""
    deadline = time.monotonic() + 10
    while len(found := daemons(path)) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    (only,) = found
    return only


def stop(pid: int) -> None:
    """Stop a process, and come back once all its threads stand still: until then they answer."""
    os.kill(pid, signal.SIGSTOP)
    while not all("State:\tT" in task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/status")):
        time.sleep(0.01)


def kill_daemon(path: str) -> None:
    pid = daemon(path)
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [], 10)
    os.close(pidfd)


def attributes(change: Change | None) -> dict[str, tuple[Any, Any]]:
    assert change is not None
    return {each.attribute: (each.actual, each.desired) for each in change.attributes}


def immutable(path: str) -> bool:
    return "i" in subprocess.run(["lsattr", "-d", path], capture_output=True, text=True, check=True).stdout.split()[0]


def plain_mount(resource: Gocryptfs, *options: str) -> None:
    words = ["gocryptfs", "-q", *options, str(resource.cipher), resource.name]
    subprocess.run(words, input=f"{CANARY}\n".encode(), check=True, capture_output=True)


class TestMounting:
    def test_made_and_mounted_once(self, declared: Gocryptfs, converge: Converge, host: Host) -> None:
        change = differences(declared.read(host), declared.desired(host))
        assert change
        assert change.actual is None
        assert declared.summary(host, change).startswith(f"make {declared.cipher}; take its master key away from ")
        assert not Path(declared.name).exists()
        assert converge(declared) is not None
        mount = mounts.Mounts().at(declared.name)
        assert mount
        assert (mount.type, mount.source) == ("fuse.gocryptfs", declared.cipher)
        assert "allow_other" in mount.options
        pid = daemon(declared.name)
        Path(declared.name, "letter").write_text("plain text")
        assert not any(b"plain text" in path.read_bytes() for path in Path(str(declared.cipher)).iterdir())
        assert converge(declared) is None
        assert daemon(declared.name) == pid

    def test_the_master_key_opens_it(self, declared: Gocryptfs, converge: Converge, host: Host, folder: Path) -> None:
        converge(declared)
        (file,) = (folder / "state" / "masterkeys").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert [note for note in host.notes if str(file) in note]
        key = file.read_text().splitlines()[2]
        Path(declared.name, "letter").write_text("hello")
        (folder / "other").mkdir()
        subprocess.run(
            ["gocryptfs", "-q", f"-masterkey={key}", str(declared.cipher), str(folder / "other")],
            check=True, capture_output=True,
        )  # fmt: skip
        assert (folder / "other" / "letter").read_text() == "hello"
        file.unlink()
        host.notes.clear()
        assert converge(declared) is None
        assert not host.notes

    def test_a_key_that_was_not_taken_away_is_never_written_over(
        self, declared: Gocryptfs, converge: Converge, host: Host, folder: Path
    ) -> None:
        file = folder / "state" / "masterkeys" / Path(declared._key_file(host).path).name
        file.parent.mkdir(parents=True)
        file.write_text("an earlier key")
        with pytest.raises(ResourceError, match="that file exists"):
            converge(declared)
        assert file.read_text() == "an earlier key"
        assert not list(Path(str(declared.cipher)).iterdir())
        file.write_text("")  # of a run that was cut off
        assert converge(declared) is not None

    def test_unmounted_by_hand(self, declared: Gocryptfs, converge: Converge) -> None:
        converge(declared)
        Path(declared.name, "letter").write_text("hello")
        subprocess.run(["umount", declared.name], check=True)
        assert attributes(converge(declared)) == {"mount": ("unmounted", "mounted")}
        assert Path(declared.name, "letter").read_text() == "hello"

    def test_its_daemon_was_killed(self, declared: Gocryptfs, converge: Converge, host: Host) -> None:
        converge(declared)
        Path(declared.name, "letter").write_text("hello")
        kill_daemon(declared.name)
        change = converge(declared)
        assert attributes(change) == {"mount": ("dead", "mounted")}
        assert change
        assert "dead daemon" in declared.summary(host, change)
        assert Path(declared.name, "letter").read_text() == "hello"
        assert len([each for each in mounts.Mounts().all if each.path == declared.name]) == 1

    def test_its_daemon_hangs(
        self, declared: Gocryptfs, converge: Converge, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        converge(declared)
        pid = daemon(declared.name)
        monkeypatch.setattr(mounts, "ANSWER_LIMIT", 0.5)
        stop(pid)
        try:
            with pytest.raises(ResourceError, match=r"did not answer within 0\.5 s"):
                declared.read(host)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert converge(declared) is None

    def test_a_plan_does_not_look_at_what_lies_on_a_mount_that_hangs(
        self, declared: Gocryptfs, converge: Converge, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        converge(declared)
        pid = daemon(declared.name)
        monkeypatch.setattr(mounts, "ANSWER_LIMIT", 0.5)
        lets_go = threading.Timer(30, os.kill, (pid, signal.SIGCONT))  # or who looks would wait for ever
        lets_go.start()
        stop(pid)
        try:
            host.forget()
            letters = Directory(name=f"{declared.name}/letters")
            entries = [Entry(declared, "s", "s", []), Entry(letters, "s", "s", [declared.id])]
            steps = Planner(host, Past()).plan(entries)
            assert lets_go.is_alive(), "nothing waited for it"
            assert [step.outcome for step in steps] == ["failed", "failed"]
            assert steps[1].error == f"not looked at, because {declared.id} failed"
            block_all(steps)
            assert (steps[1].outcome, steps[1].blocked_by) == ("blocked", [declared.id])
        finally:
            lets_go.cancel()
            os.kill(pid, signal.SIGCONT)
        host.forget()
        assert [step.outcome for step in Planner(host, Past()).plan(entries)] == ["in-desired-state", "would-add"]

    def test_others_can_use_it_or_not(self, declared: Gocryptfs, converge: Converge) -> None:
        # Whoever is not root cannot come here but by a capability, which FUSE does not look at.
        capable = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        look = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *capable, "ls", declared.name]
        converge(declared)
        Path(declared.name).chmod(0o755)
        assert subprocess.run(look, capture_output=True, check=False).returncode == 0
        change = converge(replace(declared, allow_other=False))
        assert attributes(change) == {"allow_other": (True, False)}
        assert subprocess.run(look, capture_output=True, check=False).returncode != 0

    def test_options_that_changed(self, declared: Gocryptfs, converge: Converge, host: Host) -> None:
        converge(declared)
        pid = daemon(declared.name)
        other = replace(declared, options=[FAST, "-ro", "--noprealloc"])
        change = converge(other)
        assert attributes(change) == {"options": ([], ["-noprealloc", "-ro"])}
        assert change
        assert other.summary(host, change) == "mount again"
        assert daemon(declared.name) != pid
        with pytest.raises(OSError, match="Read-only"):
            Path(declared.name, "letter").write_text("hello")
        assert converge(other) is None
        assert converge(replace(other, options=["-ro", "-noprealloc", "-xchacha"])) is None

    def test_options_of_a_mount_by_hand(self, declared: Gocryptfs, converge: Converge, host: Host) -> None:
        converge(declared)
        subprocess.run(["umount", declared.name], check=True)
        plain_mount(declared, "-allow_other", "-ro", "-passfile", "/dev/stdin")
        assert attributes(converge(declared)) == {"options": (["-ro"], [])}
        subprocess.run(["umount", declared.name], check=True)
        plain_mount(declared, "-allow_other")
        assert converge(declared) is None

    def test_a_link_on_the_way(self, declared: Gocryptfs, converge: Converge, folder: Path) -> None:
        (folder / "real").mkdir()
        (folder / "link").symlink_to(folder / "real")
        through = replace(declared, name=f"{folder}/link/plain", cipher=f"{folder}/link/cipher")
        with pytest.raises(ResourceError, match="symbolic link"):
            converge(through)
        through = replace(through, requires=[f"link:{folder}/link"])
        assert converge(through) is not None
        assert converge(through) is None

    def test_a_name_with_strange_letters(self, declared: Gocryptfs, converge: Converge, folder: Path) -> None:
        strange = replace(declared, name=f"{folder}/my mail\\ä\tb", cipher=f"{folder}/my ciphers, all")
        assert converge(strange) is not None
        assert converge(strange) is None

    def test_without_aes_instructions(
        self, declared: Gocryptfs, converge: Converge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(gocryptfs_facts(), "cpu_has_aes", ("", lambda: False))
        assert converge(declared) is not None
        flags = json.loads(Path(f"{declared.cipher}/gocryptfs.conf").read_text())["FeatureFlags"]
        assert "XChaCha20Poly1305" in flags
        assert converge(declared) is None


def gocryptfs_facts() -> dict[str, Any]:
    from agent.facts import FACTS

    return FACTS


class TestNothingIsLost:
    def test_a_cipher_directory_that_holds_something_else(self, declared: Gocryptfs, host: Host, folder: Path) -> None:
        (folder / "cipher").mkdir()
        (folder / "cipher" / "thesis").write_text("years of work")
        with pytest.raises(ResourceError, match=r"not empty, and no gocryptfs directory") as error:
            declared.read(host)
        assert "thesis" in error.value.detail
        assert error.value.hint
        with pytest.raises(ResourceError, match=r"not empty"):
            declared.apply(host, Change(None, declared.desired(host), ()))
        assert (folder / "cipher" / "thesis").read_text() == "years of work"

    def test_a_cipher_directory_without_its_configuration(
        self, declared: Gocryptfs, converge: Converge, host: Host
    ) -> None:
        converge(declared)
        subprocess.run(["umount", declared.name], check=True)
        host.forget()
        Path(f"{declared.cipher}/gocryptfs.conf").rename(f"{declared.cipher}/../gocryptfs.conf")
        with pytest.raises(ResourceError, match="is gone") as error:
            declared.read(host)
        assert "master key" in error.value.hint

    @pytest.mark.parametrize("leave_empty", [True, False])
    def test_one_that_was_there_is_never_made_anew(
        self, declared: Gocryptfs, converge: Converge, host: Host, *, leave_empty: bool
    ) -> None:
        converge(declared)
        subprocess.run(["umount", declared.name], check=True)
        host.forget()
        Path(str(declared.cipher)).rename(f"{declared.cipher}.elsewhere")  # as the disk that it lies on
        if leave_empty:
            Path(str(declared.cipher)).mkdir()
        host.last_set = {declared.id: declared.desired(host)}.get
        with pytest.raises(ResourceError, match="is gone") as error:
            declared.read(host)
        assert "disk" in error.value.hint
        with pytest.raises(ResourceError, match="is gone"):
            declared.undo(host, declared.desired(host))
        assert not Path(str(declared.cipher), "gocryptfs.conf").exists()
        assert mounts.Mounts().at(declared.name) is None

    def test_one_that_is_empty_is_used(self, declared: Gocryptfs, converge: Converge, folder: Path) -> None:
        (folder / "cipher").mkdir(mode=0o711)
        (folder / "cipher").chmod(0o711)
        (folder / "plain").mkdir()
        assert converge(declared) is not None
        assert (folder / "cipher").stat().st_mode & 0o777 == 0o711

    def test_one_that_exists_is_mounted(self, declared: Gocryptfs, converge: Converge, folder: Path) -> None:
        (folder / "cipher").mkdir()
        init = ["gocryptfs", "-init", "-q", FAST, str(folder / "cipher")]
        subprocess.run(init, input=f"{CANARY}\n".encode(), check=True, capture_output=True)
        converge(declared)
        assert not (folder / "state").exists()

    def test_a_file_in_its_place(self, declared: Gocryptfs, host: Host, folder: Path) -> None:
        (folder / "cipher").write_text("")
        with pytest.raises(ResourceError, match="not a folder"):
            declared.read(host)
        (folder / "cipher").unlink()
        (folder / "plain").symlink_to("/")
        with pytest.raises(ResourceError, match="not a folder"):
            declared.read(host)

    def test_a_mount_point_that_is_not_empty(self, declared: Gocryptfs, host: Host, folder: Path) -> None:
        (folder / "plain").mkdir()
        (folder / "plain" / "letter").write_text("in clear")
        with pytest.raises(ResourceError, match="is not empty") as error:
            declared.read(host)
        assert "letter" in error.value.detail
        assert "move that away" in error.value.hint
        assert not (folder / "cipher").exists()

    def test_another_file_system_there(self, declared: Gocryptfs, host: Host, folder: Path) -> None:
        (folder / "plain").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", declared.name], check=True)
        for ensure in ("mounted", "unmounted"):
            with pytest.raises(ResourceError, match="is a mount of none"):
                replace(declared, ensure=ensure).read(host)

    def test_the_wrong_passphrase(self, declared: Gocryptfs, converge: Converge, host: Host) -> None:
        converge(declared)
        wrong = replace(declared, passphrase=secret("wrong"))
        with pytest.raises(ResourceError, match="the passphrase does not open"):
            converge(replace(wrong, allow_other=False))
        assert converge(declared) is None, "it was unmounted before the passphrase was tried"
        subprocess.run(["umount", declared.name], check=True)
        with pytest.raises(ResourceError, match="the passphrase does not open") as error:
            converge(wrong)
        assert "gocryptfs -passwd" in error.value.hint

    @pytest.mark.parametrize("value", ["", "two\nlines"])
    def test_a_passphrase_that_gocryptfs_would_cut(self, declared: Gocryptfs, host: Host, value: str) -> None:
        bad = replace(declared, passphrase=secret(value))
        with pytest.raises(ResourceError, match="the passphrase is"):
            bad.apply(host, Change(None, bad.desired(host), ()))
        assert not Path(str(declared.cipher)).exists()

    def test_parents_that_are_missing(self, declared: Gocryptfs, host: Host, folder: Path) -> None:
        for change in ({"name": f"{folder}/no/plain"}, {"cipher": f"{folder}/no/cipher"}):
            with pytest.raises(Missing, match=f"{folder}/no does not exist"):
                replace(declared, **change).read(host)

    def test_gocryptfs_is_missing(self, declared: Gocryptfs, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("agent.host.run.PATH", "/nonexistent")
        with pytest.raises(Missing, match="gocryptfs is not installed"):
            declared.read(host)

    def test_without_root(self, declared: Gocryptfs, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Host, "is_root", False)
        with pytest.raises(NotPermitted):
            declared.read(host)


class TestUnmounting:
    def test_unmounted(self, declared: Gocryptfs, converge: Converge, host: Host) -> None:
        converge(declared)
        gone = replace(declared, ensure="unmounted", cipher=None, passphrase=None)
        change = converge(gone)
        assert attributes(change) == {"mount": ("mounted", "unmounted")}
        assert change
        assert gone.summary(host, change) == "unmount"
        assert mounts.Mounts().at(declared.name) is None
        assert immutable(declared.name)
        assert converge(gone) is None
        assert converge(declared) is not None

    def test_absent_gives_an_ordinary_folder_back(self, declared: Gocryptfs, converge: Converge) -> None:
        gone = replace(declared, ensure="absent")
        assert converge(gone) is None
        converge(declared)
        assert converge(gone) is not None
        assert not immutable(declared.name)
        assert Path(f"{declared.cipher}/gocryptfs.conf").exists()
        assert converge(gone) is None

    def test_of_what_is_in_use(self, declared: Gocryptfs, converge: Converge) -> None:
        converge(declared)
        Path(declared.name, "deep").mkdir()
        user = subprocess.Popen(["sleep", "60"], cwd=f"{declared.name}/deep")
        try:
            with pytest.raises(ResourceError, match="it is in use") as error:
                converge(replace(declared, ensure="unmounted"))
            assert f"sleep ({user.pid})" in error.value.detail
            with pytest.raises(ResourceError, match="it is in use"):
                converge(replace(declared, allow_other=False))
            assert converge(declared) is None
        finally:
            user.kill()
            user.wait()
        with open(f"{declared.name}/file", "w") as held, pytest.raises(ResourceError) as error:
            held.write("x")
            held.flush()
            converge(replace(declared, ensure="absent"))
        assert f"({os.getpid()})" in error.value.detail
        assert converge(replace(declared, ensure="absent")) is not None

    def test_of_a_dead_one(self, declared: Gocryptfs, converge: Converge) -> None:
        converge(declared)
        kill_daemon(declared.name)
        assert attributes(converge(replace(declared, ensure="unmounted"))) == {"mount": ("dead", "unmounted")}

    def test_undo(self, declared: Gocryptfs, converge: Converge, host: Host) -> None:
        before = declared.read(host)
        converge(declared)
        Path(declared.name, "letter").write_text("hello")
        removed = replace(declared, passphrase="(sensitive)")
        removed.undo(host, before)
        assert mounts.Mounts().at(declared.name) is None
        assert not immutable(declared.name)
        assert not list(Path(declared.name).iterdir())
        host.forget()
        unmounted = declared.read(host)
        converge(declared)
        assert Path(declared.name, "letter").read_text() == "hello"
        before = declared.read(host)
        other = replace(declared, options=["-ro"])
        converge(other)
        other.undo(host, before)
        host.forget()
        assert declared.read(host) == before
        other.undo(host, unmounted)
        assert mounts.Mounts().at(declared.name) is None
        with pytest.raises(ResourceError, match="its passphrase is not declared"):
            removed.undo(host, before)


class TestTheBareMountPoint:
    def test_nothing_can_be_written_into_it(self, declared: Gocryptfs, converge: Converge) -> None:
        converge(declared)
        subprocess.run(["umount", declared.name], check=True)
        with pytest.raises(PermissionError):
            Path(declared.name, "letter").write_text("in clear")

    def test_it_is_guarded_beneath_a_mount(self, declared: Gocryptfs, converge: Converge) -> None:
        converge(declared)
        subprocess.run(["umount", declared.name], check=True)
        subprocess.run(["chattr", "-i", declared.name], check=True)
        plain_mount(declared, "-allow_other")
        pid = daemon(declared.name)
        assert attributes(converge(declared)) == {"guarded": (False, True)}
        assert daemon(declared.name) == pid, "it was mounted again"
        subprocess.run(["umount", declared.name], check=True)
        assert immutable(declared.name)

    def test_what_lies_beneath_the_mount_is_told(self, declared: Gocryptfs, converge: Converge, host: Host) -> None:
        converge(declared)
        subprocess.run(["umount", declared.name], check=True)
        subprocess.run(["chattr", "-i", declared.name], check=True)
        Path(declared.name, "letter").write_text("in clear")
        plain_mount(declared, "-allow_other", "-nonempty")
        host.forget()
        declared.read(host)
        assert [note for note in host.notes if "beneath the mount, in clear, lie letter" in note]

    def test_where_there_is_no_such_flag(
        self, declared: Gocryptfs, converge: Converge, host: Host, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agent.host.immutable._permitted", lambda: False)
        assert converge(declared) is not None
        assert converge(declared) is None
        assert [note for note in host.notes if "cannot be made immutable" in note]

    def test_what_lies_in_it_comes_after_it(self, declared: Gocryptfs, folder: Path) -> None:
        on_it = Directory(name=declared.name, mode="0755")
        below = Directory(name=f"{declared.name}/example.org")
        parent, around = Directory(name=str(folder)), Directory(name=str(declared.cipher))
        graph = Graph([Entry(each, "s", "s", []) for each in (below, on_it, declared, around, parent)])
        graph.imply()
        order = [entry.id for entry in graph.in_order()]
        assert order.index(parent.id) < order.index(around.id) < order.index(declared.id)
        assert order.index(declared.id) < order.index(on_it.id) < order.index(below.id)
        assert f"{declared.cipher}/" in declared.paths()

    def test_a_plan_does_not_take_it_for_the_mount(self, declared: Gocryptfs, converge: Converge, host: Host) -> None:
        def planned() -> list[tuple[str, str]]:
            host.forget()
            below = Directory(name=f"{declared.name}/letters")
            beside = Directory(name=f"{declared.name}-beside")
            entries = [
                Entry(declared, "s", "s", []),
                *(Entry(each, "s", "s", [declared.id]) for each in (below, beside)),
            ]
            return [(step.outcome, step.note) for step in Planner(host, Past()).plan(entries)][1:]

        later = ("unknown", f"known after apply: {declared.id} is mounted first")
        assert planned() == [later, ("would-add", "")]
        converge(declared)
        assert planned() == [("would-add", ""), ("would-add", "")]
        Path(declared.name, "letters").mkdir()
        subprocess.run(["umount", declared.name], check=True)
        assert planned()[0] == later
        converge(declared)
        assert planned()[0] == ("in-desired-state", "")


class TestThePassphrase:
    def test_nobody_sees_it(
        self, declared: Gocryptfs, converge: Converge, host: Host, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Looked for in the arguments and environment of every process, logs, messages and files."""
        seen: list[str] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                for path in Path("/proc").glob("[0-9]*"):
                    for name in ("cmdline", "environ"):
                        with contextlib.suppress(OSError):
                            if CANARY.encode() in (path / name).read_bytes():
                                seen.append(f"{path}/{name}")

        watcher = threading.Thread(target=look)
        watcher.start()
        caplog.set_level(logging.DEBUG)
        try:
            change = converge(declared)
            subprocess.run(["umount", declared.name], check=True)
            with pytest.raises(ResourceError) as error:
                converge(replace(declared, passphrase=secret(CANARY + "!")))
            converge(declared)
        finally:
            done.set()
            watcher.join()
        assert not seen
        key = Path(declared._key_file(host).path).read_text().splitlines()[2]
        for told in (CANARY, key):
            said = [caplog.text, str(error.value), repr(declared), repr(change), repr(host), *host.notes]
            assert not any(told in text for text in said)
        for path in folder.rglob("*"):
            if path.is_file():
                assert CANARY.encode() not in path.read_bytes(), path

    def test_it_comes_from_a_secret(self) -> None:
        table = {"name": "/srv/mail", "cipher": "/srv/cipher", "passphrase": "plain"}
        (problem,) = validated("gocryptfs", table, set())
        assert "must be a secret" in problem.message


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cipher": None}, "cipher is needed"),
        ({"passphrase": None}, "passphrase is needed"),
        ({"cipher": "/srv/mail"}, "nor lie within one another"),
        ({"cipher": "/srv/mail/cipher"}, "nor lie within one another"),
        ({"cipher": "/srv"}, "nor lie within one another"),
        ({"options": ["-passfile=/etc/x"]}, '"-passfile=/etc/x" cannot be set here'),
        ({"options": ["--masterkey=stdin"]}, "cannot be set here"),
        ({"options": ["-allow_other"]}, "cannot be set here"),
        ({"options": ["-ko noexec"]}, "is no option"),
        ({"options": ["ro"]}, "is no option"),
    ],
)
def test_problems(fields: dict[str, Any], said: str) -> None:
    fine: dict[str, Any] = {"name": "/srv/mail", "cipher": "/srv/mail.enc", "passphrase": secret()}
    assert not list(Gocryptfs(**fine).problems())
    assert any(said in problem for problem in Gocryptfs(**fine | fields).problems())


def test_parsing_of_a_daemon() -> None:
    words = "-fg -notifypid=7 -q -ro --ko noexec -extpass secret -masterkey=aa -- /c /m"
    assert gocryptfs._parsed(["gocryptfs", *words.split(" ")]) == (["-ko=noexec", "-ro"], ["/c", "/m"])


USER_AT_WORK = """
import os, sys
os.chdir(sys.argv[1])
os.setgroups([]), os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
for i in range(300):
    os.close(os.open(f"f{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    assert os.stat(f"f{i}").st_uid == os.getuid()
    os.rename(f"f{i}", f"g{i}")
    os.unlink(f"g{i}")
"""


def test_users_at_the_same_time_keep_their_own_rights(declared: Gocryptfs, converge: Converge) -> None:
    converge(declared)
    users = []
    for user in (2001, 2002, 2003):
        folder = f"{declared.name}/{user}"
        os.mkdir(folder, 0o700)
        os.chown(folder, user, user)
        words = ["/usr/bin/python3", "-I", "-c", USER_AT_WORK, folder, str(user)]
        users.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
    assert [user.communicate()[1] for user in users] == ["", "", ""]


def test_nothing_goes_onto_what_somebody_mounted_over_it(folder: Path) -> None:
    """Neither at once nor when it is tried again; the resident agent looks at files by themselves."""
    (folder / "site.toml").write_text(
        f'[secrets.store]\ngenerate = 32\nfile = "{folder}/key"\n[gocryptfs."{folder}/plain"]\n'
        f'cipher = "{folder}/cipher"\npassphrase = "{{{{ secrets.store }}}}"\noptions = ["{FAST}"]\n'
        f'[file."{folder}/plain/inside"]\ncontent = "private"\n'
    )
    place = Residence(folder)
    try:
        place.settle()
        assert place.agent.state.summary == {"in-desired-state": 2}
        subprocess.run(["mount", "-t", "tmpfs", "none", f"{folder}/plain"], check=True)
        place.until(lambda: "failed" in place.agent.state.summary)
        place.settle()
        (folder / "plain/other").touch()
        place.settle()
        assert os.listdir(folder / "plain") == ["other"]
        subprocess.run(["umount", f"{folder}/plain"], check=True)
        place.until(lambda: place.agent.state.summary == {"in-desired-state": 2})
    finally:
        place.agent.close()
