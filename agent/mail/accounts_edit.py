"""Changes to several files that hold together: made one after the other, and all taken back where one goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from agent.errors import ResourceError
from agent.host.files import Files


class Edit:
    """Within `with`: what was written and removed is put back if an error leaves the block."""

    def __init__(self) -> None:
        self._files = Files()
        self._before: list[tuple[str, Mapping[str, Any] | None]] = []

    def __enter__(self) -> Edit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is not None:
            for path, state in reversed(self._before):
                self._put_back(path, state)

    def _put_back(self, path: str, state: Mapping[str, Any] | None) -> None:
        if state is None:
            self._files.remove(path)
        else:
            owner, group = state["owner"], state["group"]
            self._files.replace(path, state["content"], mode=state["mode"], owner=owner, group=group)

    def folder(self, path: str, mode: str) -> None:
        """Make a folder that is not there; it stays, whatever happens."""
        if self._files.read_entry(path) is None:
            self._files.make_directory(path, mode)

    def write(self, path: str, content: bytes, mode: str) -> None:
        """Replace a file in one instant; one that is there already keeps its owner."""
        self._before.append((path, self._regular(path)))
        self._files.replace(path, content, mode=mode)

    def remove(self, path: str) -> None:
        """Remove a file; it is no error where there is none."""
        before = self._regular(path)
        if before is not None:
            self._before.append((path, before))
            self._files.remove(path)

    def _regular(self, path: str) -> Mapping[str, Any] | None:
        state = self._files.read(path)
        if state is not None and state["type"] != "file":
            raise ResourceError(f"{path} is no file, but a {state['type']}", hint="move it away")
        return state
