"""Inside the host: what a systemd unit costs while nothing happens, of all its processes together."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

GROUPS = Path("/sys/fs/cgroup/system.slice")
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
"""The last number that a process or thread of this host got: they are given in turn."""


def _pids(unit: str) -> list[int]:
    return [int(word) for word in (GROUPS / unit / "cgroup.procs").read_text().split()]


def _cpu(unit: str) -> float:
    text = (GROUPS / unit / "cpu.stat").read_text()
    return int(re.findall(r"^usage_usec (\d+)", text, re.MULTILINE)[0]) / 1e6


def _wakes(unit: str) -> int:
    """How often its threads gave the processor up to wait for something; of those that are still there."""
    total = 0
    for pid in _pids(unit):
        with suppress(OSError):  # it may just have ended
            for status in Path(f"/proc/{pid}/task").glob("*/status"):
                total += int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)[0])
    return total


def _children(unit: str) -> int:
    """Memory pages that were touched by processes which ended and which these started (cminflt in proc_pid_stat(5))."""
    total = 0
    for pid in _pids(unit):
        with suppress(OSError):
            total += int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[8])
    return total


def memory(unit: str) -> dict[str, Any]:
    """In MB: resident memory of the largest process, and of all together with shared pages counted once."""
    resident, shared = [], 0
    for pid in _pids(unit):
        with suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            resident.append(int(re.findall(r"^Rss:\s+(\d+)", text, re.MULTILINE)[0]))
            shared += int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0])
    megabyte = 1000 / 1.024
    found = {"processes": len(resident), "rss_mb": round(max(resident) / megabyte, 1)}
    return found | {"pss_mb": round(shared / megabyte, 1)}


def cost(unit: str, seconds: float) -> dict[str, Any]:
    """What it takes in so many seconds, after a moment of rest; `started` is of the whole host, `by_it` the unit's."""
    time.sleep(min(15.0, seconds))
    before = _cpu(unit), _wakes(unit), int(LAST_PID.read_text()), _children(unit)
    time.sleep(seconds)
    after = _cpu(unit), _wakes(unit), int(LAST_PID.read_text()), _children(unit)
    return {
        "idle_s": seconds,
        "cpu_percent": round(100 * (after[0] - before[0]) / seconds, 4),
        "wakes": after[1] - before[1],
        "started": after[2] - before[2],
        "by_it": after[3] != before[3],
        **memory(unit),
    }
