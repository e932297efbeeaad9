"""Starts programs whose threads keep their user and group to themselves.

gocryptfs makes each file as the user who asked for it, by setreuid(2) in one of its threads. Debian 13's (2.5.1, issue
893 of its own) goes through the C library, which does so in all threads: two users at a time get each other's rights,
and "Operation not permitted". The library tells the other threads by a signal of its own (33, nptl(7)). A filter of
system calls (seccomp(2)) that lets this one signal go nowhere leaves the change with the thread that asked for it.
A gocryptfs that is right sends none, and the filter does nothing. It belongs to a thread, and to what that starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable

from agent.errors import ResourceError
from agent.host.threads import Value, in_thread

_SIGSETXID = 33
# By architecture as the kernel names it (AUDIT_ARCH_*): the number of tgkill(2).
_TGKILL = {0xC000003E: 234, 0x40000003: 270, 0xC00000B7: 131, 0x40000028: 268, 0xC00000F3: 131}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_AT_NUMBER, _AT_ARCHITECTURE, _AT_THIRD_ARGUMENT = 0, 4, 32
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _filter() -> bytes:
    """tgkill(…, 33) fails as if the thread were gone; all else is allowed. Jumps count from the next step."""
    steps = []
    last = 4 * len(_TGKILL)
    for block, (architecture, number) in enumerate(_TGKILL.items()):
        here = 4 * block
        steps += [
            (_LOAD, 0, 0, _AT_ARCHITECTURE),
            (_EQUAL, 0, 2, architecture),
            (_LOAD, 0, 0, _AT_NUMBER),
            (_EQUAL, last + 1 - (here + 4), last - (here + 4), number),
        ]
    steps += [
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _AT_THIRD_ARGUMENT),
        (_EQUAL, 0, 1, _SIGSETXID),
        (_RETURN, 0, 0, _ERROR | errno.ESRCH),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def confined(function: Callable[[], Value]) -> Value:
    """Call a function whose programs get the filter. Raises ResourceError where this kernel takes none."""

    def filtered() -> Value:
        code = _filter()
        held = ctypes.create_string_buffer(code, len(code))
        program = _Program(len(code) // 8, ctypes.addressof(held))
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
            why = os.strerror(ctypes.get_errno())
            raise ResourceError(f"this kernel takes no filter of system calls (seccomp): {why}")
        return function()

    return in_thread(filtered)
