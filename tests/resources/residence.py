"""A resident agent inside of a test: its turns are the test's own, so that what each of them does can be counted."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from agent.declaration import compiled
from agent.engine import Places
from agent.journal import Journal
from agent.resource import Resource
from agent.watch.agent import Agent
from agent.watch.calm import Calm
from agent.watch.events import Events
from agent.watch.tell import Teller

_POPEN_BY_SPAWN = ["subprocess.Popen", "os.posix_spawn"]
_PROCESSES = ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.forkpty", "os.system")
_audited: list[tuple[str, Any]] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _audited is not None and (event == "open" or event in _PROCESSES):
        _audited.append((event, arguments[0] if arguments else ""))


sys.addaudithook(_audit)


class Residence:
    """A site below `folder` (site.toml), what it declares in `folder/host`, and the agent that looks after it."""

    def __init__(self, folder: Path, *, netns: str | None = None, calm: Calm | None = None) -> None:
        self.folder, self.host = folder, folder / "host"
        self.host.mkdir(exist_ok=True)
        self.said: list[str] = []
        teller = Teller()
        teller._say = lambda message, _level, _fields: self.said.append(message)  # type: ignore[method-assign]
        self.places = Places(folder / "state", folder / "state" / "run")
        with mock.patch.object(compiled, "in_child", lambda work: work()):  # tests may have threads
            self.agent = Agent(self._load, self.places, teller, events=Events(netns), calm=calm)
            self.agent.begin()

    def _load(self) -> Any:
        with mock.patch.object(compiled, "in_child", lambda work: work()):
            return compiled.load_apart(self.folder / "site.toml", None, self.folder / "state")

    @property
    def rounds(self) -> int:
        """How often the engine was asked to look at anything."""
        return self.agent.state.rounds

    def status(self) -> dict[str, Any]:
        """What it answers when asked for its status."""
        document, rows = self.agent._answer({})
        return {**document, "resources": [json.loads(row) for row in rows]}

    def turn(self) -> None:
        """One turn, which never waits long."""
        with mock.patch.object(self.agent, "_patience", self._patience):
            self.agent.turn()

    def _patience(self) -> float:
        patience = type(self.agent)._patience(self.agent)
        return 0.02 if patience is None else min(0.02, patience)

    def until(self, condition: Callable[[], bool], limit: float = 20.0) -> None:
        """Turn until the condition holds."""
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, self.said[-5:]
            self.turn()

    def settle(self) -> None:
        """Turn until nothing is left to do soon: what failed or is contested is put off for longer and longer."""
        idle = 0
        while idle < 5:
            before, due = self.rounds, self.agent._calm.next_due()
            self.turn()
            soon = due is not None and due < time.monotonic() + 0.2
            idle = 0 if soon or self.rounds != before else idle + 1

    def changes(self) -> list[tuple[str, str, str]]:
        """Resource, cause and outcome of all changes in the journal, the first made first."""
        journal = Journal.to_read(self.places.state)
        assert journal is not None
        rows = [change for run in reversed(journal.runs(1000)) for change in journal.changes(run["id"])]
        journal.close()
        return [(row["resource"], row["cause"], row["outcome"]) for row in rows]

    def runs(self) -> int:
        """How many runs are in the journal."""
        journal = Journal.to_read(self.places.state)
        assert journal is not None
        count = len(journal.runs(1000))
        journal.close()
        return count


class Counted:
    """What was read, opened and started while it was counted."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.opened: list[str] = []
        self.started: list[str] = []


@contextmanager
def counting(*kinds: type[Resource]) -> Iterator[Counted]:
    """Count every reading of these kinds, every file that is opened, and every process that is started."""
    global _audited  # noqa: PLW0603 - an audit hook cannot be taken back
    counted = Counted()

    def spied(kind: type[Resource]) -> Any:
        real = kind.read

        def read(self: Resource, host: Any) -> Any:
            counted.read.append(self.id)
            return real(self, host)

        return mock.patch.object(kind, "read", read)

    patches = [spied(kind) for kind in kinds]
    _audited = []
    try:
        for patch in patches:
            patch.start()
        yield counted
    finally:
        for patch in patches:
            patch.stop()
        counted.opened = [str(what) for event, what in _audited if event == "open"]
        started = [event for event, _ in _audited if event != "open"]
        # From Python 3.13 on subprocess starts programs by posix_spawn, and both events tell of one.
        twice = [number for number in range(1, len(started)) if started[number - 1 : number + 1] == _POPEN_BY_SPAWN]
        counted.started = [event for number, event in enumerate(started) if number not in twice]
        _audited = None
