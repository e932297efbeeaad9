"""What the sealer tells the journal: who, how large, which verdict; never a word of a message."""

from __future__ import annotations

import re
import sys


def log(text: str) -> None:
    """Write one line; addresses and replies of others cannot break out of it."""
    plain = re.sub(r"[\x00-\x1f\x7f]+", " ", text).encode("ascii", "backslashreplace").decode()
    print(f"seal: {plain[:1000]}", file=sys.stderr, flush=True)
