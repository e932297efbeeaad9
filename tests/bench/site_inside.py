"""Inside the host of `tests/bench/site`: a check of the whole site that finds nothing. site_inside.py RESULTS"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from inside import once

RUNS = 25
CHECK = ["agent", "apply", "--check"]
LIBRARIES = ["python3", "-I", "-c", "import click, psycopg, cryptography.x509, dns.resolver"]


def main(results: Path) -> None:
    taken: dict[str, list[dict[str, float]]] = {"check": [], "libraries": []}
    for _ in range(RUNS + 1):
        for name, command in {"check": CHECK, "libraries": LIBRARIES}.items():
            measured = once(command, 60)
            assert measured["status"] == 0, f"{command}: exit status {measured['status']}"
            taken[name].append(measured)
    rows = {
        name: {
            "median": median(each["wall"] for each in runs[1:]),
            "least": min(each["wall"] for each in runs[1:]),
            "cpu": median(each["cpu"] for each in runs[1:]),
            "memory_mb": max(each["memory"] for each in runs[1:]),
        }
        for name, runs in taken.items()
    }
    report = json.loads(subprocess.run([*CHECK, "--json"], stdout=-1, check=True).stdout)
    count = sum(report["summary"].values())
    results.write_text(json.dumps({**rows, "resources": count, "runs": RUNS, "load": os.getloadavg()[0]}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
