"""Inside the host of `tests/bench/soak`: random damages of all kinds, in bursts, faster than they are repaired.

soak_inside.py DAMAGES SEED; writes soak.json beside itself, and fails where the host does not end as it is declared.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from watch_cost import memory
from watch_world import RULES, SCHEMA, SERVICES, SITE, STORES, Kind, declare, files, session, start

HERE = Path(__file__).parent
UNIT = "state-agent.service"
SAMPLES = 40
CALM = 900.0
"""Seconds after which all must be well: who was contested is left alone for up to five minutes."""


def do(kind: Kind, chance: random.Random) -> bool:
    """Damage something; gives whether there was anything to damage: it may still be broken from the last time."""
    try:
        kind.damage(chance.choice(kind.things()), chance)
    except (OSError, subprocess.CalledProcessError):
        return False
    except Exception as error:
        import psycopg

        if not isinstance(error, psycopg.Error):
            raise
        return False
    return True


def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(subprocess.run(["agent", "status", "--json"], stdout=-1, check=False).stdout)
    return found


def wait_for_calm() -> float:
    """Seconds until all is as declared."""
    began = time.monotonic()
    while not status()["converged"]:
        if time.monotonic() - began > CALM:
            raise TimeoutError(subprocess.run(["agent", "status"], stdout=-1, text=True, check=False).stdout)
        time.sleep(1.0)
    return round(time.monotonic() - began, 1)


def soak(kinds: list[Kind], weights: list[int], count: int, seed: int) -> dict[str, Any]:
    """All the damage, with the memory of the agent in between."""
    chance, done, missed = random.Random(seed), Counter[str](), 0
    samples = [memory(UNIT)["rss_mb"]]
    for number in range(1, count + 1):
        kind = chance.choices(kinds, weights)[0]
        name = kind.name.partition(",")[0]
        if do(kind, chance):
            done[name] += 1
        else:
            missed += 1
        if chance.randrange(8) == 0:  # a burst ends
            time.sleep(chance.uniform(0, 0.4))
        if number % max(1, count // SAMPLES) == 0:
            samples.append(memory(UNIT)["rss_mb"])
            print(number, samples[-1], flush=True)
    return {"damages": count, "seed": seed, "done": dict(done), "already_broken": missed, "rss_mb": samples}


def main(count: int, seed: int) -> None:
    kinds: list[Kind] = [files(500), RULES, STORES, SERVICES, SCHEMA]
    declare(*kinds)
    start()
    agent = subprocess.run(["systemctl", "show", UNIT, "-P", "MainPID"], stdout=-1, check=True).stdout
    session()
    found = soak(kinds, [10, 2, 1, 1, 2], count, seed)
    found["calm_after_s"] = wait_for_calm()
    found["rss_mb"].append(memory(UNIT)["rss_mb"])
    same = agent == subprocess.run(["systemctl", "show", UNIT, "-P", "MainPID"], stdout=-1, check=True).stdout
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    check = subprocess.run(["agent", "apply", "--check", "--json"], stdout=-1, check=False)
    rows = json.loads(check.stdout)["resources"]
    found |= {
        "one_process": same,
        "differing": [row["id"] for row in rows if row["outcome"] != "in-desired-state"],
        "not_whole": [thing for kind in kinds for thing in kind.things() if not kind.is_whole(thing)],
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
        "resources": len(rows),
    }
    (HERE / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    if found["differing"] or found["not_whole"] or not same:
        sys.exit(f"not as declared in {SITE}: {found['differing']} {found['not_whole']}; one process: {same}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
