"""Progress on stderr: a live line on a terminal, a few plain ones elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

_SHOW_AFTER = 1.0
_PLAIN_EVERY = 10.0


class Progress:
    """Shows what a long run is doing, once it has taken longer than a second.

    On a terminal it is one live line. Elsewhere a line is written at most every ten seconds, and at once for what
    somebody has to know: that something is waited for.
    """

    def __init__(self, *, quiet: bool = False, colour: bool = True) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty() and not quiet
        self._colour = colour
        self._live: Any = None
        self._started = time.monotonic()
        self._last_plain = self._started
        self._task = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.clear()

    def task(self, name: str) -> None:
        """What is being worked on from now."""
        self._task = name
        self.say("")

    def say(self, text: str) -> None:
        """What is going on in it."""
        line = f"{self._task}: {text}" if self._task and text else self._task or text
        if self._quiet or not line:
            return
        if self._terminal:
            self._say_live(line)
        elif text.startswith("waiting") or time.monotonic() - self._last_plain >= _PLAIN_EVERY:
            self._last_plain = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def _say_live(self, line: str) -> None:
        if self._live is None:
            if time.monotonic() - self._started < _SHOW_AFTER and "waiting" not in line:
                return
            from rich.console import Console

            console = Console(stderr=True, highlight=False, markup=False, no_color=not self._colour)
            self._live = console.status("", spinner="dots")
            self._live.start()
        from rich.text import Text

        self._live.update(Text(line, overflow="ellipsis", no_wrap=True))

    def clear(self) -> None:
        """Take the live line away, so that something else can be written."""
        if self._live is not None:
            self._live.stop()
            self._live = None
