"""The kind `file`: content, mode and owner of real files, and everything that may stand in their place."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import Missing, NotPermitted, ResourceError
from agent.host import Host, files
from agent.host.paths import temporary_name
from agent.resource import differences
from agent.resources.file import File
from agent.secret import Secret, SecretText

if TYPE_CHECKING:
    from tests.resources.conftest import Converge


def state_of(path: Path) -> tuple[str, int, int, int]:
    status = path.lstat()
    return path.read_text(), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".state-agent")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


class TestContent:
    def test_made_changed_and_removed(self, folder: Path, converge: Converge) -> None:
        path = folder / "motd"
        assert converge(File(name=str(path), content="one\n")) is not None
        assert state_of(path) == ("one\n", 0o644, 0, 0)
        assert converge(File(name=str(path), content="one\n")) is None
        change = converge(File(name=str(path), content="two\n"))
        assert change and [each.attribute for each in change.attributes] == ["content"]
        assert path.read_text() == "two\n"
        converge(File(name=str(path), ensure="absent"))
        assert not path.exists()
        assert converge(File(name=str(path), ensure="absent")) is None
        assert not leftovers(folder)

    @pytest.mark.parametrize("content", ["", "no newline", "CRLF\r\n", "ünï\n", "x" * 3_000_000, "nul \0 byte"])
    def test_content_is_exact(self, folder: Path, converge: Converge, content: str) -> None:
        converge(File(name=str(folder / "file"), content=content))
        assert (folder / "file").read_bytes() == content.encode()

    def test_encoding(self, folder: Path, converge: Converge) -> None:
        converge(File(name=str(folder / "file"), content="größe", encoding="latin-1"))
        assert (folder / "file").read_bytes() == b"gr\xf6\xdfe"
        assert list(File(name="/x", content="größe", encoding="ascii").problems())
        assert list(File(name="/x", content="x", encoding="klingon").problems())

    def test_source_is_copied_byte_for_byte(self, folder: Path, converge: Converge) -> None:
        (folder / "source").write_bytes(bytes(range(256)))
        converge(File(name=str(folder / "file"), source=str(folder / "source")))
        assert (folder / "file").read_bytes() == bytes(range(256))

    def test_source_that_is_gone(self, folder: Path, host: Host) -> None:
        with pytest.raises(ResourceError, match="cannot be read"):
            File(name=str(folder / "file"), source=str(folder / "gone")).desired(host)

    def test_one_origin_of_the_content(self) -> None:
        assert list(File(name="/x").problems())
        assert list(File(name="/x", content="a", template="b").problems())
        assert list(File(name="/x", content="a", ensure="absent").problems())
        assert not list(File(name="/x", content="").problems())

    def test_a_name_of_255_bytes(self, folder: Path, converge: Converge, host: Host) -> None:
        converge(File(name=str(folder / ("n" * 255)), content="x"))
        with pytest.raises(ResourceError, match="File name too long"):
            File(name=str(folder / ("n" * 256)), content="x").read(host)

    def test_too_large_to_read(self, folder: Path, host: Host) -> None:
        with (folder / "file").open("wb") as sparse:
            sparse.truncate(1 << 40)
        with pytest.raises(ResourceError, match="too large"):
            File(name=str(folder / "file"), content="x").read(host)

    def test_files_without_a_size_are_read_whole(self, host: Host) -> None:
        state = host.files.read(f"/proc/{os.getpid()}/mountinfo")
        assert state and state["content"].count(b"\n") > 1

    def test_folder_missing_is_known_after_apply(self, folder: Path, host: Host) -> None:
        name = str(folder / "sub" / "file")
        with pytest.raises(Missing, match="does not exist"):
            File(name=name, content="x").read(host)
        assert File(name=name, content="x", requires=["directory:/other"]).read(host) is None
        assert File(name=name, ensure="absent").read(host) is None
        with pytest.raises(Missing):
            host.files.replace(name, b"x", mode="0644")
        host.files.remove(name)


class TestAttributes:
    def test_mode_and_owner(self, folder: Path, converge: Converge) -> None:
        path = folder / "file"
        path.write_text("x")
        change = converge(File(name=str(path), content="x", mode="0640", owner="daemon", group="nogroup"))
        assert change and not change.touches("content")
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode), path.group()) == (1, 0o640, "nogroup")

    def test_owner_not_declared_stays(self, folder: Path, converge: Converge) -> None:
        path = folder / "file"
        path.write_text("x")
        os.chown(path, 1, 2)
        converge(File(name=str(path), content="y"))
        assert state_of(path) == ("y", 0o644, 1, 2)

    def test_group_in_a_set_group_id_folder(self, folder: Path, converge: Converge) -> None:
        os.chown(folder, 0, 1)
        folder.chmod(0o2755)
        converge(File(name=str(folder / "plain"), content="x"))
        converge(File(name=str(folder / "declared"), content="x", owner="root", group="root"))
        assert {state_of(folder / name) for name in ("plain", "declared")} == {("x", 0o644, 0, 0)}

    @pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
    def test_umask_has_no_say(self, folder: Path, converge: Converge, umask: int) -> None:
        before = os.umask(umask)
        try:
            converge(File(name=str(folder / "file"), content="x", mode="0664"))
        finally:
            os.umask(before)
        assert state_of(folder / "file")[1] == 0o664

    def test_set_user_id_survives_a_change_of_owner(self, folder: Path, converge: Converge, host: Host) -> None:
        path = folder / "file"
        converge(File(name=str(path), content="x", mode="4755", owner="daemon"))
        assert state_of(path) == ("x", 0o4755, 1, 0)
        converge(File(name=str(path), content="x", mode="4755", owner="nobody"))
        assert state_of(path)[1] == 0o4755
        host.files.set_attributes(str(path), owner="daemon")
        assert state_of(path)[1:3] == (0o4755, 1)

    def test_unknown_owner(self, folder: Path, host: Host) -> None:
        file = File(name=str(folder / "file"), content="x", owner="no-such-user")
        change = differences(file.read(host), file.desired(host))
        assert change
        with pytest.raises(Missing, match="no-such-user"):
            file.apply(host, change)
        assert not list(folder.iterdir())
        assert list(file.implied_requires()) == ["user:no-such-user"]

    def test_an_owner_without_a_name_is_put_back(self, folder: Path, converge: Converge, host: Host) -> None:
        path = folder / "file"
        path.write_text("old")
        os.chown(path, 54321, 54322)
        file = File(name=str(path), content="new", owner="daemon", group="daemon")
        before = file.read(host)
        converge(file)
        file.undo(host, before)
        assert state_of(path) == ("old", 0o644, 54321, 54322)

    def test_another_hard_link_keeps_the_old_content(self, folder: Path, converge: Converge) -> None:
        (folder / "other").write_text("old")
        os.link(folder / "other", folder / "file")
        converge(File(name=str(folder / "file"), content="new", mode="0600"))
        assert state_of(folder / "other") == ("old", 0o644, 0, 0)
        assert state_of(folder / "file")[0] == "new"


class TestInItsPlace:
    def test_a_link_is_replaced_and_its_target_is_not_touched(
        self, folder: Path, converge: Converge, host: Host
    ) -> None:
        (folder / "target").write_text("precious")
        (folder / "file").symlink_to("target")
        file = File(name=str(folder / "file"), content="x")
        before = file.read(host)
        converge(file)
        assert (folder / "target").read_text() == "precious"
        assert not (folder / "file").is_symlink()
        file.undo(host, before)
        assert os.readlink(folder / "file") == "target"
        converge(File(name=str(folder / "file"), ensure="absent"))
        assert (folder / "target").read_text() == "precious"

    def test_a_dangling_link(self, folder: Path, converge: Converge) -> None:
        (folder / "file").symlink_to("nowhere")
        converge(File(name=str(folder / "file"), content="x"))
        assert not (folder / "nowhere").exists()

    @pytest.mark.parametrize("ensure", ["present", "absent"])
    @pytest.mark.parametrize("name", ["folder", ""])
    def test_a_directory_is_never_destroyed(self, folder: Path, host: Host, ensure: str, name: str) -> None:
        path = folder / name
        path.mkdir(exist_ok=True)
        file = File(name=str(path), ensure=ensure, content="x" if ensure == "present" else None)  # type: ignore[arg-type]
        change = differences(file.read(host), file.desired(host))
        assert change
        with pytest.raises(ResourceError, match="is a directory"):
            file.apply(host, change)
        assert path.is_dir()

    def test_the_root(self, host: Host) -> None:
        file = File(name="/", content="x")
        change = differences(file.read(host), file.desired(host))
        assert change
        with pytest.raises(ResourceError, match="is a directory"):
            file.apply(host, change)

    @pytest.mark.parametrize("make", ["fifo", "socket", "device"])
    def test_special_files_are_neither_opened_nor_replaced(
        self, folder: Path, host: Host, converge: Converge, make: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        if make == "fifo":
            os.mkfifo("special")
        elif make == "socket":
            socket.socket(socket.AF_UNIX).bind("special")
        else:
            os.mknod("special", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        file = File(name=str(folder / "special"), content="x")
        with monkeypatch.context() as patch:
            patch.setattr(files.Files, "_open", lambda *_: pytest.fail("opened"))
            state = file.read(host)
        change = differences(state, file.desired(host))
        assert change and state and state["type"] == "special file"
        with pytest.raises(ResourceError, match="special file"):
            file.apply(host, change)
        converge(File(name=str(folder / "special"), ensure="absent"))
        assert not (folder / "special").exists()

    def test_a_file_as_parent(self, folder: Path, host: Host) -> None:
        (folder / "parent").write_text("")
        with pytest.raises(ResourceError, match="is not a directory"):
            File(name=str(folder / "parent" / "file"), content="x").read(host)

    def test_links_above_it_are_refused_unless_declared(self, folder: Path, converge: Converge, host: Host) -> None:
        (folder / "real").mkdir()
        (folder / "alias").symlink_to("real")
        name = str(folder / "alias" / "file")
        with pytest.raises(ResourceError, match="symbolic link") as caught:
            File(name=name, content="x").read(host)
        assert str(folder / "real" / "file") in caught.value.hint
        with pytest.raises(ResourceError, match="symbolic link"):
            host.files.replace(name, b"x", mode="0644")
        converge(File(name=name, content="x", requires=[f"link:{folder}/alias"]))
        assert (folder / "real" / "file").read_text() == "x"
        with pytest.raises(ResourceError, match="symbolic link"):  # what one resource may is not what all may
            File(name=name, content="x").read(host)

    def test_a_link_that_comes_between_read_and_apply(self, folder: Path, host: Host) -> None:
        (folder / "sub").mkdir()
        file = File(name=str(folder / "sub" / "file"), content="x")
        change = differences(file.read(host), file.desired(host))
        assert change
        (folder / "sub").rename(folder / "elsewhere")
        (folder / "sub").symlink_to("elsewhere")
        with pytest.raises(ResourceError, match="symbolic link"):
            file.apply(host, change)
        assert not list((folder / "elsewhere").iterdir())


class TestFailures:
    def test_a_full_disk_leaves_the_old_file(self, small_disk: Path, host: Host) -> None:
        path = small_disk / "file"
        path.write_text("old")
        with pytest.raises(ResourceError, match="No space left"):
            host.files.replace(str(path), b"x" * 200_000, mode="0600")
        assert state_of(path) == ("old", 0o644, 0, 0)
        assert os.listdir(small_disk) == ["file"]

    def test_a_read_only_mount(self, small_disk: Path, host: Host) -> None:
        (small_disk / "file").write_text("old")
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        with pytest.raises(ResourceError, match="Read-only"):
            host.files.replace(str(small_disk / "file"), b"x", mode="0600")
        with pytest.raises(ResourceError, match="Read-only"):
            host.files.remove(str(small_disk / "file"))

    def test_a_file_that_is_a_mount_point(self, folder: Path, host: Host) -> None:
        (folder / "file").write_text("below")
        (folder / "over").write_text("over")
        subprocess.run(["mount", "--bind", folder / "over", folder / "file"], check=True)
        try:
            with pytest.raises(ResourceError, match="is busy") as caught:
                host.files.replace(str(folder / "file"), b"x", mode="0600")
        finally:
            subprocess.run(["umount", folder / "file"], check=True)
        assert "mount point" in caught.value.hint
        assert not leftovers(folder)

    def test_an_immutable_file(self, folder: Path, host: Host) -> None:
        path = folder / "file"
        path.write_text("old")
        if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", path], check=False).returncode:
            pytest.skip("this file system has no immutable files")
        try:
            with pytest.raises(ResourceError, match="not permitted") as caught:
                host.files.replace(str(path), b"x", mode="0600")
        finally:
            subprocess.run(["chattr", "-i", path], check=True)
        assert "lsattr" in caught.value.hint
        assert path.read_text() == "old"
        assert not leftovers(folder)

    def test_without_root(self, folder: Path, tmp_path: Path) -> None:
        (folder / "file").write_text("old")
        (folder / "file").chmod(0o600)
        for above in (folder, *folder.parents):
            if above != Path("/tmp") and above.is_relative_to("/tmp"):
                above.chmod(0o755)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                for attempt in (
                    lambda: Host().files.read(str(folder / "file")),
                    lambda: Host().files.replace(str(folder / "file"), b"x", mode="0644"),
                    lambda: Host().files.remove(str(folder / "file")),
                ):
                    with pytest.raises(NotPermitted):
                        attempt()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (folder / "file").read_text() == "old"

    def test_the_temporary_of_a_killed_run_is_reused(self, folder: Path, converge: Converge) -> None:
        file = File(name=str(folder / "file"), content="x")
        assert list(file.temporaries()) == [str(folder / temporary_name(file.name))]
        Path(*file.temporaries()).write_text("half")
        converge(file)
        assert os.listdir(folder) == ["file"]


class TestValidation:
    def test_accepted(self, folder: Path, converge: Converge) -> None:
        validate = ["sh", "-c", 'test "$(cat "$1")" = good && test "$(basename "$1")" = file', "sh", "{file}"]
        converge(File(name=str(folder / "file"), content="good", validate=validate))
        assert (folder / "file").read_text() == "good"

    def test_refused_leaves_nothing_behind(self, folder: Path, host: Host, tmp_path: Path) -> None:
        (folder / "file").write_text("old")
        validate = ["sh", "-c", 'echo "bad: $1" >&2; exit 3', "sh", "{file}"]
        file = File(name=str(folder / "file"), content="new", validate=validate)
        change = differences(file.read(host), file.desired(host))
        assert change
        with pytest.raises(ResourceError, match="not valid; the old one stays") as caught:
            file.apply(host, change)
        assert f"bad: {folder}/file" in caught.value.detail and "exit status 3" in caught.value.detail
        assert state_of(folder / "file") == ("old", 0o644, 0, 0)
        assert os.listdir(folder) == ["file"]
        assert not list((tmp_path / "run" / "stage").iterdir())

    def test_the_other_files_stand_beside_it(self, folder: Path, converge: Converge) -> None:
        (folder / "other").write_text("other")
        (folder / "file").write_text("old")
        os.mkfifo(folder / "fifo")
        (folder / "dangling").symlink_to("nowhere")
        validate = ["sh", "-c", 'cat "$1"/file "$1"/other | grep -q ^newother$', "sh", "{dir}"]
        converge(File(name=str(folder / "file"), content="new", validate=validate))

    def test_a_program_that_is_not_there(self, folder: Path, host: Host) -> None:
        file = File(name=str(folder / "file"), content="new", validate=["no-such-program"])
        change = differences(file.read(host), file.desired(host))
        assert change
        with pytest.raises(Missing, match="no-such-program"):
            file.apply(host, change)
        assert not list(folder.iterdir())

    def test_a_secret_stays_out_of_the_error(self, folder: Path, host: Host) -> None:
        text = SecretText(("key = ", "name", "\n"), lambda _name: "canary-42")
        validate = ["sh", "-c", 'cat "$1" >&2; exit 1', "sh", "{file}"]
        file = File(name=str(folder / "file"), content=text, validate=validate)
        change = differences(file.read(host), file.desired(host))
        assert change
        with pytest.raises(ResourceError) as caught:
            file.apply(host, change)
        assert "canary-42" not in str(caught.value)


class TestSecrets:
    def test_mode_0600_and_unreadable_values(self, folder: Path, converge: Converge, host: Host) -> None:
        text = SecretText(("key = ", "name", "\n"), lambda _name: "canary-42")
        file = File(name=str(folder / "file"), content=text)
        change = converge(file)
        assert state_of(folder / "file")[:2] == ("key = canary-42\n", 0o600)
        state = file.read(host)
        assert "canary" not in repr([change, state, file.desired(host), file])
        assert file.text_of(state) is None
        assert isinstance(state and state["content"], Secret)

    def test_sensitive_content_and_a_declared_mode(self, folder: Path, converge: Converge) -> None:
        change = converge(File(name=str(folder / "file"), content="canary-42", sensitive=True, mode="0640"))
        assert "canary" not in repr(change)
        assert state_of(folder / "file")[1] == 0o640

    def test_never_readable_by_others_for_a_moment(
        self, folder: Path, converge: Converge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        write = os.write

        def spy(fd: int, data: bytes) -> int:
            status = os.fstat(fd)
            if status.st_size == 0:
                seen.append((stat.S_IMODE(status.st_mode), status.st_uid))
            return write(fd, data)

        monkeypatch.setattr(files.os, "write", spy)
        converge(File(name=str(folder / "file"), content="x", mode="0440", owner="daemon", sensitive=True))
        assert seen == [(0o440, 1)]

    def test_what_was_not_kept_cannot_be_undone(self, folder: Path, converge: Converge, host: Host) -> None:
        (folder / "file").write_text("old")
        file = File(name=str(folder / "file"), content="new", sensitive=True)
        before = {name: value for name, value in (file.read(host) or {}).items() if name != "content"}
        converge(file)
        for undo in (file.cannot_undo, file.undo):
            with pytest.raises(ResourceError, match="not kept"):
                undo(host, before)
        assert (folder / "file").read_text() == "new"


class TestUndo:
    def test_a_new_file_is_removed(self, folder: Path, converge: Converge, host: Host) -> None:
        file = File(name=str(folder / "file"), content="x")
        converge(file)
        file.undo(host, None)
        file.undo(host, None)
        assert not list(folder.iterdir())

    def test_content_mode_and_owner_come_back(self, folder: Path, converge: Converge, host: Host) -> None:
        (folder / "file").write_text("old")
        (folder / "file").chmod(0o4710)
        file = File(name=str(folder / "file"), content="new", owner="daemon")
        before = file.read(host)
        converge(file)
        file.undo(host, before)
        assert state_of(folder / "file") == ("old", 0o4710, 0, 0)
        absent = File(name=str(folder / "file"), ensure="absent")
        converge(absent)
        absent.undo(host, before)
        assert state_of(folder / "file") == ("old", 0o4710, 0, 0)
