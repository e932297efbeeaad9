"""Files that the agent believes later, and values that follow from contents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.host.private import Derived, keep, own_file


class Work:
    """Counts how often it is done."""

    def __init__(self, value: object) -> None:
        self.value, self.count = value, 0

    def __call__(self) -> object:
        self.count += 1
        return self.value


@pytest.fixture
def derived(tmp_path: Path) -> Derived:
    """In a folder that is not there yet."""
    return Derived(str(tmp_path / "state"))


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state/derived").iterdir())


def test_work_is_done_once_for_each_content(derived: Derived, tmp_path: Path) -> None:
    work = Work({"a": [1, 2.5, None]})
    for made in (derived, derived, Derived(str(tmp_path / "state"))):
        assert made.of("what", b"content", work) == {"a": [1, 2.5, None]}
    assert work.count == 1
    derived.of("what", b"another", work)
    derived.of("other", b"content", work)
    assert work.count == 3
    assert {path.stat().st_mode & 0o777 for path in files(tmp_path)} == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("how", ["broken", "shared", "foreign", "link", "folder"])
def test_what_cannot_be_believed_is_worked_out_again(derived: Derived, tmp_path: Path, how: str) -> None:
    work = Work("right")
    derived.of("what", b"content", work)
    path = files(tmp_path)[0]
    if how == "broken":
        path.write_text('"wro')
    elif how == "shared":
        path.write_text('"wrong"')
        path.chmod(0o620)
    elif how == "foreign" and os.geteuid() == 0:
        path.write_text('"wrong"')
        os.chown(path, 65534, -1)
    elif how == "link":
        other = tmp_path / "other"
        keep(other, b'"wrong"')
        path.unlink()
        path.symlink_to(other)
    elif how == "folder":
        path.unlink()
        path.mkdir()
    assert derived.of("what", b"content", work) == "right"
    assert work.count == (1 if how == "foreign" and os.geteuid() else 2)


def test_what_goes_wrong_is_not_kept(derived: Derived, tmp_path: Path) -> None:
    def wrong() -> object:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        derived.of("what", b"content", wrong)
    assert not (tmp_path / "state").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    work = Work(1)
    assert [Derived(str(tmp_path / "state")).of("what", b"", work) for _ in range(2)] == [1, 1]
    assert work.count == 2


def test_old_ones_go(derived: Derived, tmp_path: Path) -> None:
    for number in range(150):
        derived.of("what", str(number).encode(), lambda: None)
    assert len(files(tmp_path)) == 101


def test_nothing_is_left_of_a_write_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "name"
    path.parent.mkdir()
    (path.parent / "name.4711").write_text("half")
    keep(path, b"whole")
    assert own_file(path) == b"whole"
    assert [each.name for each in path.parent.iterdir()] == ["name"]
