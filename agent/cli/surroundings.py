"""What a program may rely on wherever it is started: three open streams and a current folder; and how it ends."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn


def prepare() -> None:
    """Open what is closed of stdin, stdout and stderr, and leave a current folder that is gone.

    The next file to be opened would else be, say, stdout to every program that is started: the journal, for one.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - it stays open to the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def leave(status: int) -> NoReturn:
    """End with an exit status, which is a failure where what was to be said to stdout cannot be said.

    Python would take all modules apart first, which takes a tenth of a check; what is open the kernel closes.
    """
    try:
        sys.stdout.flush()
    except OSError:
        status = status if status in (1, 3) else 1
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(status)
