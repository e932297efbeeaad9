"""The kind `directory`: made, given mode and owner, purged of what nobody declared."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import Missing, ResourceError
from agent.host import Host
from agent.resource import Resource, differences
from agent.resources.directory import Directory

if TYPE_CHECKING:
    from tests.resources.conftest import Converge


def attributes(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def refuse(host: Host, resource: Resource, match: str) -> ResourceError:
    """Apply what differs, which has to fail."""
    change = differences(resource.read(host), resource.desired(host))
    assert change is not None
    with pytest.raises(ResourceError, match=match) as caught:
        resource.apply(host, change)
    return caught.value


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class TestMade:
    def test_with_defaults(self, tmp_path: Path, converge: Converge, host: Host) -> None:
        path = tmp_path / "new"
        before = os.umask(0o077)
        try:
            converge(Directory(name=str(path)))
        finally:
            os.umask(before)
        assert attributes(path) == (0o755, 0, 0)
        assert converge(Directory(name=str(path))) is None
        Directory(name=str(path)).undo(host, None)
        Directory(name=str(path)).undo(host, None)
        assert not path.exists()

    def test_with_mode_and_owner(self, tmp_path: Path, converge: Converge) -> None:
        path = tmp_path / "new"
        os.chown(tmp_path, 0, 2)
        tmp_path.chmod(0o2755)
        converge(Directory(name=str(path), mode="2750", owner="daemon"))
        assert attributes(path) == (0o2750, 1, 0)

    def test_only_what_is_declared_is_managed(self, tmp_path: Path, converge: Converge, host: Host) -> None:
        path = tmp_path / "there"
        path.mkdir()
        path.chmod(0o2711)
        os.chown(path, 1, 2)
        assert converge(Directory(name=str(path))) is None
        directory = Directory(name=str(path), group="nogroup")
        before = directory.read(host)
        change = converge(directory)
        assert change and [each.attribute for each in change.attributes] == ["group"]
        assert attributes(path)[:2] == (0o2711, 1)
        directory.undo(host, before)
        assert attributes(path) == (0o2711, 1, 2)
        converge(Directory(name=str(path), mode="0755"))
        assert attributes(path) == (0o755, 1, 2)

    def test_an_unknown_owner_leaves_no_half_made_one(self, tmp_path: Path, host: Host) -> None:
        refuse(host, Directory(name=str(tmp_path / "new"), owner="no-such-user"), "no-such-user")
        assert not (tmp_path / "new").exists()

    def test_missing_parent(self, tmp_path: Path, host: Host) -> None:
        name = str(tmp_path / "a" / "b")
        with pytest.raises(Missing):
            Directory(name=name).read(host)
        assert Directory(name=name, requires=["directory:/a"]).read(host) is None
        refuse(host, Directory(name=name, requires=["directory:/a"]), "does not exist")

    def test_the_root_itself(self, converge: Converge) -> None:
        assert converge(Directory(name="/", mode=f"{stat.S_IMODE(Path('/').stat().st_mode):04o}")) is None
        assert converge(Directory(name="/")) is None

    @pytest.mark.parametrize("ensure", ["present", "absent"])
    @pytest.mark.parametrize("there", ["file", "link", "fifo"])
    def test_another_thing_in_its_place_stays(self, tmp_path: Path, host: Host, ensure: Any, there: str) -> None:
        path = tmp_path / "x"
        if there == "file":
            path.write_text("precious")
        elif there == "fifo":
            os.mkfifo(path)
        else:
            (tmp_path / "target").mkdir()
            path.symlink_to("target")
        before = tree(tmp_path)
        refuse(host, Directory(name=str(path), ensure=ensure, purge=True), f"{path} is a")
        assert tree(tmp_path) == before

    def test_below_a_link(self, tmp_path: Path, host: Host, converge: Converge) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "alias").symlink_to("real")
        with pytest.raises(ResourceError, match="symbolic link"):
            Directory(name=str(tmp_path / "alias" / "new")).read(host)
        directory = Directory(name=str(tmp_path / "alias" / "new"), requires=[f"link:{tmp_path}/alias"], purge=True)
        converge(directory)
        (tmp_path / "real" / "new" / "junk").write_text("")
        change = converge(directory)
        assert change and change.attributes[0].actual == ["junk"]


class TestRemoved:
    def test_empty(self, tmp_path: Path, converge: Converge, host: Host) -> None:
        path = tmp_path / "old"
        path.mkdir(mode=0o750)
        directory = Directory(name=str(path), ensure="absent")
        before = directory.read(host)
        converge(directory)
        assert not path.exists()
        assert converge(directory) is None
        directory.undo(host, before)
        assert attributes(path) == (0o750, 0, 0)

    def test_not_empty_is_refused(self, tmp_path: Path, host: Host) -> None:
        path = tmp_path / "old"
        (path / "sub").mkdir(parents=True)
        for name in "abc":
            (path / name).write_text("")
        error = refuse(host, Directory(name=str(path), ensure="absent"), "not empty")
        assert "a, b, c and 1 more" in error.detail and "purge = true" in error.hint
        assert tree(path) == {"a", "b", "c", "sub"}
        with pytest.raises(ResourceError, match="not empty"):
            Directory(name=str(path)).undo(host, None)

    def test_not_empty_with_purge(self, tmp_path: Path, converge: Converge, host: Host) -> None:
        path = tmp_path / "old"
        (path / "sub").mkdir(parents=True)
        (path / "sub" / "file").write_text("")
        converge(Directory(name=str(path), ensure="absent", purge=True))
        assert not path.exists()
        path.mkdir()
        (path / "kept").write_text("")
        refuse(host, Directory(name=str(path), ensure="absent", purge=True, keep=["kept"]), "not empty")
        assert tree(path) == {"kept"}


class TestPurge:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "conf.d"
        names = "declared.conf junk sub/deep/declared sub/junk old/a/b old/c cache/x/y a.keep"
        for name in names.split():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("")
        return folder

    def purge(self, folder: Path, *declared: str, **fields: Any) -> Directory:
        return Directory(name=str(folder), purge=True, declared=[str(folder / each) for each in declared], **fields)

    def test_removes_what_nobody_declared(self, folder: Path, converge: Converge, host: Host) -> None:
        directory = self.purge(folder, "declared.conf", "sub/deep/declared", keep=["*.keep", "cache/"])
        before = directory.read(host)
        change = converge(directory)
        assert change and change.attributes[0].attribute == "unmanaged"
        assert change.attributes[0].actual == ["junk", "old/", "old/a/", "old/a/b", "old/c", "sub/junk"]
        assert tree(folder) == {
            "declared.conf", "sub", "sub/deep", "sub/deep/declared", "cache", "cache/x", "cache/x/y", "a.keep",
        }  # fmt: skip
        assert converge(directory) is None
        with pytest.raises(ResourceError, match="was not kept") as caught:
            directory.undo(host, before)
        assert caught.value.summary.endswith(": junk, old/a/b, old/c, sub/junk")

    def test_reading_removes_nothing(self, folder: Path, host: Host) -> None:
        before = tree(folder)
        self.purge(folder).read(host)
        assert tree(folder) == before

    def test_only_what_was_planned_is_removed(self, folder: Path, host: Host) -> None:
        directory = self.purge(folder, keep=["a.keep"])
        change = differences(directory.read(host), directory.desired(host))
        assert change
        (folder / "came later").write_text("")
        directory.apply(host, change)
        assert tree(folder) == {"a.keep", "came later"}

    def test_a_kept_file_keeps_its_folders(self, folder: Path, converge: Converge) -> None:
        converge(self.purge(folder, keep=["old/*/b"]))
        assert tree(folder) == {"old", "old/a", "old/a/b"}

    def test_a_folder_that_another_resource_purges_is_left_to_it(self, folder: Path, converge: Converge) -> None:
        directory = Directory(name=str(folder), purge=True, declared=[str(folder / "cache"), str(folder / "old") + "/"])
        converge(directory)
        assert tree(folder) == {"cache", "old", "old/a", "old/a/b", "old/c"}

    def test_links_are_removed_and_not_followed(self, folder: Path, tmp_path: Path, converge: Converge) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "precious").write_text("")
        (folder / "link").symlink_to(tmp_path / "outside")
        (folder / "declared-link").symlink_to(tmp_path / "outside")
        os.mkfifo(folder / "fifo")
        converge(self.purge(folder, "declared-link"))
        assert tree(folder) == {"declared-link"}
        assert tree(tmp_path / "outside") == {"precious"}

    @pytest.mark.parametrize("bind", [True, False])
    def test_mounts_stay(self, folder: Path, tmp_path: Path, converge: Converge, bind: bool) -> None:
        point = folder / "old" / "a mount"
        point.mkdir()
        (tmp_path / "outside").mkdir()
        kind = ["--bind", tmp_path / "outside"] if bind else ["-t", "tmpfs", "none"]
        subprocess.run(["mount", *kind, point], check=True)
        try:
            (point / "precious").write_text("")
            converge(self.purge(folder))
            assert tree(folder) == {"old", "old/a mount", "old/a mount/precious"}
        finally:
            subprocess.run(["umount", point], check=True)

    def test_names_that_are_not_utf8(self, folder: Path, converge: Converge) -> None:
        odd = os.fsencode(folder) + b"/\xff\n"
        Path(os.fsdecode(odd)).write_text("")
        change = converge(self.purge(folder))
        assert change
        change.attributes[0].actual[0].encode()
        assert "\\udcff\n" in change.attributes[0].actual
        assert tree(folder) == set()

    def test_a_tree_that_is_too_deep(self, tmp_path: Path, host: Host) -> None:
        (tmp_path / "top" / "/".join(["d"] * 150)).mkdir(parents=True)
        with pytest.raises(ResourceError, match="deep"):
            self.purge(tmp_path / "top").read(host)

    @pytest.mark.parametrize("name", ["/", "/etc", "/home", "/usr", "/usr/bin", "/var/lib", "/usr/local/bin"])
    def test_folders_of_the_system_are_refused(self, name: str) -> None:
        assert "never purged" in "".join(Directory(name=name, purge=True).problems())

    def test_problems(self) -> None:
        assert not list(Directory(name="/etc/x.d", purge=True, keep=["a"]).problems())
        assert list(Directory(name="/etc/x.d", keep=["a"]).problems())
        assert list(Directory(name="/etc/x.d", ensure="absent", mode="0755").problems())
        assert list(Directory(name="/x", owner="a", group="b").implied_requires()) == ["user:a", "group:b"]
