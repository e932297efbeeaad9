"""Inside the disposable host: measures how long commands take that do next to nothing. start.py RESULTS"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from inside import install, once
from tools import TOOLS

RUNS = 15
NAMES = ("state-agent", "Puppet", "Salt")


def main(results: Path) -> None:
    chosen = []
    for tool in TOOLS:
        if tool.name in NAMES:
            try:
                print(tool.name, install(tool), file=sys.stderr)
                chosen.append(tool)
            except RuntimeError as error:
                print(f"{tool.name} is not measured: {error}", file=sys.stderr)
    site = Path("/etc/state-agent/site.toml")
    files = "".join(f'[file."/srv/start/{number}"]\ncontent = "{number}\\n"\n' for number in range(100))
    site.write_text('[directory."/srv/start"]\n' + files)
    subprocess.run(["agent", "apply", "--quiet"], check=True)
    subprocess.run(["systemctl", "start", "state-agent.service"], check=True)
    asked = [["agent", "--version"], ["agent", "status"], *(list(tool.version()) for tool in chosen[1:])]
    while subprocess.run(asked[1], capture_output=True, check=False).returncode:
        time.sleep(0.1)
    taken: dict[str, list[float]] = {}
    for _ in range(RUNS + 1):
        for command in asked:
            name = " ".join([Path(command[0]).name, *command[1:]])
            taken.setdefault(name, []).append(once(command, 60)["wall"])
    rows = {name: {"median": median(walls[1:]), "least": min(walls[1:])} for name, walls in taken.items()}
    results.write_text(json.dumps({"load": os.getloadavg()[0], "commands": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
