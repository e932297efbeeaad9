"""What every part needs of the machine below: where things are kept, locks, programs, messages."""

import contextlib
import fcntl
import os
import select
import shlex
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

DEFAULT_CACHE = "/var/cache/state-agent-host"
CACHE = Path(os.environ.get("STATE_AGENT_HOST_CACHE", DEFAULT_CACHE)).resolve()
BASES = CACHE / "bases"
REALM = "state-agent-host" + ("" if str(CACHE) == DEFAULT_CACHE else f"-{zlib.crc32(bytes(CACHE)):08x}")
"""The name of the hosts' network and the start of their cgroups' names. Another cache is another realm."""
SUBNET = "10.213.77"
PROGRAM = (sys.executable, str(Path(sys.argv[0]).resolve()))
"""How a process of this program starts another one."""

CONTAINED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "slave", "--pid", "--mount-proc", "--fork", "--kill-child"),
)
"""Before a command: it, all that it starts and all that it mounts end with the process that runs it."""


class HostError(Exception):
    """Something went wrong; the message is all that the user needs."""


def say(text: str) -> None:
    print(f"host: {text}", file=sys.stderr, flush=True)


def sh(*command: str, check: bool = True) -> str:
    """Runs a program of the machine and returns its stdout; raises HostError if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        output = (done.stdout + done.stderr)[-2000:]
        raise HostError(f"{shlex.join(command)}: exit status {done.returncode}\n{output}")
    return done.stdout


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kill(pid: int) -> None:
    """Kills one process and waits until it has ended."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], 10)
        os.close(process)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
