"""The kind `link`: made, replaced in one instant, and never in place of a file or folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import Missing, ResourceError
from agent.host import Host
from agent.resource import differences
from agent.resources.link import Link

if TYPE_CHECKING:
    from tests.resources.conftest import Converge


class TestLink:
    def test_made_replaced_and_removed(self, tmp_path: Path, converge: Converge, host: Host) -> None:
        path = tmp_path / "link"
        (tmp_path / "one").mkdir()
        first = Link(name=str(path), target="one")
        converge(first)
        assert os.readlink(path) == "one"
        assert converge(first) is None
        before = first.read(host)
        second = Link(name=str(path), target=str(tmp_path / "nowhere"))
        change = converge(second)
        assert change and [each.attribute for each in change.attributes] == ["target"]
        assert os.readlink(path) == str(tmp_path / "nowhere")
        second.undo(host, before)
        assert os.readlink(path) == "one"
        absent = Link(name=str(path), ensure="absent")
        converge(absent)
        assert os.listdir(tmp_path) == ["one"]
        absent.undo(host, before)
        assert os.readlink(path) == "one"
        first.undo(host, None)
        first.undo(host, None)
        assert os.listdir(tmp_path) == ["one"]

    def test_it_is_there_at_every_moment(
        self, tmp_path: Path, converge: Converge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "link"
        path.symlink_to("one")
        rename = os.rename

        def spy(*args: Any, **kwargs: Any) -> None:
            assert os.readlink(path) == "one"
            rename(*args, **kwargs)

        monkeypatch.setattr(os, "rename", spy)
        converge(Link(name=str(path), target="two"))

    @pytest.mark.parametrize("fields", [{"target": "x"}, {"ensure": "absent"}])
    @pytest.mark.parametrize("there", ["file", "empty directory", "fifo"])
    def test_nothing_else_is_destroyed(self, tmp_path: Path, host: Host, fields: dict[str, Any], there: str) -> None:
        path = tmp_path / "link"
        if there == "file":
            path.write_text("precious")
        elif there == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
        link = Link(name=str(path), **fields)
        change = differences(link.read(host), link.desired(host))
        assert change
        with pytest.raises(ResourceError, match="not a link") as caught:
            link.apply(host, change)
        assert "move it" in caught.value.hint
        with pytest.raises(ResourceError, match="not a link"):
            link.undo(host, None)
        with pytest.raises(ResourceError):
            host.files.make_link(str(path), "x")
        assert os.listdir(tmp_path) == ["link"] and not path.is_symlink()

    def test_what_a_killed_run_left(self, tmp_path: Path, converge: Converge) -> None:
        link = Link(name=str(tmp_path / "link"), target="x")
        Path(*link.temporaries()).symlink_to("half")
        converge(link)
        assert os.listdir(tmp_path) == ["link"]

    def test_below_another_link(self, tmp_path: Path, converge: Converge, host: Host) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "alias").symlink_to("real")
        with pytest.raises(ResourceError, match="symbolic link"):
            Link(name=str(tmp_path / "alias" / "link"), target="x").read(host)
        converge(Link(name=str(tmp_path / "alias" / "link"), target="x", requires=[f"link:{tmp_path}/alias"]))
        assert os.readlink(tmp_path / "real" / "link") == "x"

    def test_a_link_made_in_this_run_is_seen(self, tmp_path: Path, host: Host) -> None:
        (tmp_path / "real").mkdir()
        assert host.files.read(str(tmp_path / "alias" / "file")) is None
        host.files.make_link(str(tmp_path / "alias"), "real")
        with pytest.raises(ResourceError, match="symbolic link"):
            host.files.read(str(tmp_path / "alias" / "file"))

    def test_missing_parent(self, tmp_path: Path, host: Host) -> None:
        with pytest.raises(Missing):
            Link(name=str(tmp_path / "a" / "link"), target="x").read(host)
        assert Link(name=str(tmp_path / "a" / "link"), ensure="absent").read(host) is None

    def test_problems(self) -> None:
        assert not list(Link(name="/a", target="b").problems())
        assert list(Link(name="/a").problems())
        assert list(Link(name="/a", target="").problems())
        assert list(Link(name="/a", target="x" * 4096).problems())
        assert list(Link(name="/a", target="x", ensure="absent").problems())
