"""Inside the host of `tests/bench/watch`: from the damage to the repaired state, and what it costs to stay.

watch_inside.py OPTIONS-AS-JSON; writes watch.json beside itself.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from inside import hardware, say
from watch_cost import cost, memory
from watch_peers import PEERS
from watch_world import RULES, SCHEMA, SERVICES, STORES, Kind, clear, declare, files, start

HERE = Path(__file__).parent
LIMIT = 30.0
UNIT = "state-agent.service"


def damages(kind: Kind, count: int, seed: int) -> list[float]:
    """The seconds to each repair, in the order of the damages; each thing has its turn before any has a second."""
    chance, found = random.Random(seed), list[float]()
    turns: list[str] = []
    for _ in range(count):
        if not turns:
            turns = kind.things()
            chance.shuffle(turns)
        found.append(kind.repaired_since(turns.pop(), chance, LIMIT))
        time.sleep(chance.uniform(*kind.pause))
    return found


def percentiles(taken: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(taken)
    points = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * part))], 2) for name, part in points.items()
    }


def row(tool: str, what: str, taken: list[float]) -> dict[str, Any]:
    found = {"tool": tool, "what": what, "damages": len(taken), **percentiles(taken)}
    say(str(found))
    return {**found, "ms": [round(1000 * each, 2) for each in sorted(taken)]}


def status_times(count: int = 9) -> dict[str, float]:
    """Seconds that each form of `agent status` takes; of the agent itself to answer, where it is in the answer."""
    found = {}
    for name, words in {"text": [], "json": ["--json"]}.items():
        taken = []
        for _ in range(count):
            started = time.perf_counter()
            subprocess.run(["agent", "status", *words], stdout=subprocess.DEVNULL, check=True)
            taken.append(time.perf_counter() - started)
        found[name] = round(median(taken), 4)
    return found


def size_of(resources: int, seconds: float) -> dict[str, Any]:
    """Memory, idle cost and how fast it answers."""
    found = {"tool": "state-agent", "resources": resources, "status": status_times()}
    found |= cost(UNIT, seconds)
    say(str(found))
    return found


def ours(options: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows, sizes = [], []
    count, idle = options["damages"], options["idle"]
    others = (RULES, STORES, SERVICES, SCHEMA)
    small, large = options["files"]
    fewer = max(10, 300 - declare(*others))
    declare(*others, files(fewer))
    start()
    sizes.append(size_of(declare(*others, files(fewer)), idle))
    watched = files(small)
    declare(*others, watched)
    start()
    for number, kind in enumerate((watched, *others)):
        if not options["kinds"] or kind.name.split(",")[0] in options["kinds"]:
            rows.append(row("state-agent", kind.name, damages(kind, count, number)))
    sizes[0]["after_damages"] = memory(UNIT)
    watched = files(large)
    total = declare(watched)
    start()
    sizes.append(size_of(total, idle))
    if not options["kinds"] or "files" in options["kinds"]:
        rows.append(row("state-agent", watched.name, damages(watched, count, 7)))
    clear()
    return rows, sizes


def main(options: Mapping[str, Any]) -> None:
    results: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "hardware": hardware(), "options": options}
    results["rows"], results["sizes"] = ours(options)
    results["versions"], results["not_measured"] = {}, {}
    for peer in PEERS:
        if peer.name not in options["peers"]:
            continue
        try:
            results["versions"][peer.name] = peer.install()
            taken, costs = peer.measure(options)
            results["rows"].append(row(peer.name, files(options["files"][0]).name, taken))
            results["sizes"].append({"tool": peer.name, "resources": options["files"][0], **costs})
            say(str(costs))
        except (RuntimeError, TimeoutError, subprocess.CalledProcessError) as error:
            results["not_measured"][peer.name] = f"{error} {getattr(error, 'stderr', '')}".strip()
            say(f"{peer.name}: {results['not_measured'][peer.name]}")
        finally:
            peer.stop()
    results["hardware"]["load_after"] = os.getloadavg()[0]
    (HERE / "watch.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
