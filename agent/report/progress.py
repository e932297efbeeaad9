"""Progress on stderr: a live line on a terminal, a few plain ones elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
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
        self._terminal = not quiet and sys.stderr.isatty()
        self._colour = colour
        self._live: Any = None
        self._shown = False
        self._started = self._last_plain = time.monotonic()
        self._task = self._line = ""
        # Reentrant: a signal's handler clears the line while it may just be drawn.
        self._lock = threading.RLock()
        self._timer = threading.Timer(_SHOW_AFTER, self._begin_to_show)
        self._timer.daemon = True

    def __enter__(self) -> Progress:
        if self._terminal:
            self._timer.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._terminal = self._shown = False
            self.clear()

    def task(self, name: str) -> None:
        """What is being worked on from now."""
        self._task = name
        self.say("")

    def say(self, text: str) -> None:
        """What is going on in it."""
        if self._quiet:
            return
        self._line = f"{self._task}: {text}" if self._task and text else self._task or text
        if self._terminal:
            if self._shown or text.startswith("waiting"):
                self._draw()
        elif self._line and (text.startswith("waiting") or time.monotonic() - self._last_plain >= _PLAIN_EVERY):
            self._last_plain = time.monotonic()
            with suppress(OSError):
                print(self._line, file=sys.stderr, flush=True)

    def _begin_to_show(self) -> None:
        self._shown = True
        self._draw()

    def _draw(self) -> None:
        with self._lock, suppress(OSError):
            if not self._line or not self._terminal:
                return
            if self._live is None:
                from rich.console import Console

                console = Console(stderr=True, highlight=False, markup=False, no_color=not self._colour)
                self._live = console.status("", spinner="dots")
                self._live.start()
            from rich.text import Text

            from agent.report.plain import visible

            self._live.update(Text(visible(self._line), overflow="ellipsis", no_wrap=True))

    def clear(self) -> None:
        """Take the live line away, so that something else can be written."""
        with self._lock, suppress(OSError):
            if self._live is not None:
                self._live.stop()
                self._live = None
