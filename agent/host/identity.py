"""Acting as another user for an instant, where the kernel tells the other side who is calling."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_one_at_a_time = threading.Lock()


@contextmanager
def effective_user(uid: int) -> Iterator[None]:
    """Do something with the effective id of another user: only what takes an instant.

    The id belongs to the whole process, so nothing else should be going on. A socket keeps the id that it was
    connected with (SO_PEERCRED in unix(7)).
    """
    if os.geteuid() == uid:
        yield
        return
    with _one_at_a_time:
        own = os.geteuid()
        os.seteuid(uid)
        try:
            yield
        finally:
            os.seteuid(own)
