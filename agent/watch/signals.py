"""Signals that end the wait: SIGTERM and SIGINT end the agent, SIGHUP has it read the site again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

from agent.watch.events import Events


class Signals:
    """While it is entered, signals call `stop` or `reread`."""

    def __init__(self, events: Events, stop: Callable[[], None], reread: Callable[[], None]) -> None:
        self._calls = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reread}
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        events.call(self._reader, lambda: os.read(self._reader, 4096))

    def __enter__(self) -> None:
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._calls:
            signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number in self._calls:
            signal.signal(number, signal.SIG_DFL)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._calls[signal.Signals(number)]()
