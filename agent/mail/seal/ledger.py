"""Since when accounts have no usable key, kept over restarts."""

from __future__ import annotations

import contextlib
import json
import os

_NAME = "without-key.json"


class Ledger:
    """The moments (seconds since the epoch) at which accounts were first seen without a usable key."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, _NAME)
        self.since: dict[str, float] = {}
        # Where it cannot be read, the time begins anew.
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError), open(self._path) as file:
            self.since = {str(name): float(moment) for name, moment in json.load(file).items()}

    def note(self, missing: set[str], known: set[str], now: float) -> None:
        """Note who has no key, of all that are known. Raises OSError where that cannot be kept."""
        changed = {name: self.since.get(name, now) for name in sorted(missing & known)}
        if changed != self.since:
            self.since = changed
            write(self._path, json.dumps(changed, indent=1) + "\n")


def write(path: str, text: str) -> None:
    """Replace a small file of the sealer's own."""
    new = f"{path}.new"
    with open(
        os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
