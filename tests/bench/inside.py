"""Inside the disposable host: prepares the desired state, proves that each tool compares it, and measures.

inside.py OPTIONS-AS-JSON; writes results.json beside itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import tools
from tools import REMOVED, STOPPED, TOOLS, Tool, content_of, path_of

HERE = Path(__file__).parent
OUTPUT = Path("/tmp/bench-output")
PATIENCE = 15.0
"""What takes longer than this many seconds is measured once, and need not prove again what it did with fewer files."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def sh(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()[-600:]}")
    return done.stdout


def apt(verb: str, *packages: str) -> None:
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    sh("apt-get", verb, "-y", "-q", "--no-install-recommends", *packages)


def install(tool: Tool) -> str:
    """Install a tool; gives its version."""
    if tool.packages:
        apt("install", *tool.packages)
    if tool.pypi:
        sh("python3", "-m", "venv", f"/opt/{tool.pypi}")
        sh(f"/opt/{tool.pypi}/bin/pip", "install", "-q", "--no-index", "--find-links", str(HERE / "wheels"), tool.pypi)
    for command in tool.prepare():
        sh(*command)
    return sh(*tool.version()).splitlines()[0]


def make_files(count: int) -> None:
    for number in range(count):
        path = Path(path_of(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content_of(number))
        path.chmod(int(tools.MODE, 8))


def once(command: Sequence[str], limit: float) -> dict[str, Any]:
    """Run a command once; wall and CPU time in seconds, memory in MB, and its exit status."""
    words = ["python3", "-I", "-S", str(HERE / "once.py"), str(int(limit)), str(OUTPUT), *command]
    wall, cpu, memory, status = sh(*words).split()
    return {"wall": float(wall), "cpu": float(cpu), "memory": int(memory) * 1024 / 1e6, "status": int(status)}


@contextmanager
def differences(count: int, tool: Tool) -> Iterator[set[str]]:
    """One content, one mode, one package and one service differ; gives what the tool has to say of them."""
    content, mode = path_of(count // 2), path_of(count - 1)
    Path(content).write_text(content_of(count // 2) + "more\n")
    Path(mode).chmod(0o600)
    apt("remove", REMOVED)
    sh("systemctl", "stop", STOPPED)
    try:
        yield {content, mode, tool.told_packages, STOPPED}
    finally:
        apt("install", REMOVED)
        sh("systemctl", "start", STOPPED)
        make_files(count)


def told(tool: Tool) -> set[str]:
    return tool.differing(OUTPUT.read_text(errors="replace"))


class Contest:
    """All tools at one size: prepared and proved one after the other, then measured in turn.

    In turn, so that whatever else the machine does hits all of them alike.
    """

    def __init__(self, count: int, options: Mapping[str, Any], proved: dict[Tool, int]) -> None:
        self._count, self._options, self._proved = count, options, proved
        self._runs: dict[Tool, list[dict[str, Any]]] = {}
        self._wanted: dict[Tool, int] = {}
        make_files(count)

    def prepare(self, tool: Tool) -> None:
        """The first run of a tool, and the proof; raises RuntimeError where its check proves not to compare."""
        folder = self._folder(tool)
        folder.mkdir(parents=True)
        tool.declare(self._count, folder)
        first = self._once(tool, tool.first(folder))
        quick = first["wall"] < PATIENCE
        self._wanted[tool] = self._options["runs"] if quick else 1
        if not quick and self._proved[tool]:
            self._keep(tool, first)
        else:
            with differences(self._count, tool) as expected:
                self._once(tool, tool.check(folder))
                if told(tool) != expected:
                    raise RuntimeError(f"its check says {sorted(told(tool))} where {sorted(expected)} differ")
            self._proved[tool] = self._count

    def measure(self, tool: Tool) -> None:
        """One run of a tool's check; raises RuntimeError where it is not that of an unchanged host."""
        if self._wanted[tool]:
            self._keep(tool, self._once(tool, tool.check(self._folder(tool))))

    def _keep(self, tool: Tool, run: dict[str, Any]) -> None:
        if run["status"] != 0 or told(tool):
            raise RuntimeError(f"its check of the unchanged host fails: {OUTPUT.read_text()[-600:]}")
        self._runs.setdefault(tool, []).append(run)
        self._wanted[tool] -= 1

    def row(self, tool: Tool) -> dict[str, Any]:
        """What was measured."""
        runs = self._runs[tool]
        result = {key: round(median(run[key] for run in runs), 4) for key in ("wall", "cpu", "memory")}
        place = {"tool": tool.name, "files": self._count}
        return {**place, **result, "runs": len(runs), "proved_with": self._proved[tool], "single": runs}

    def _folder(self, tool: Tool) -> Path:
        return Path("/srv/declarations", tool.name, str(self._count))

    def _once(self, tool: Tool, command: Sequence[str]) -> dict[str, Any]:
        say(f"{self._count} files, {tool.name}")
        run = once(command, self._options["limit"])
        if run["status"] == -9:
            raise RuntimeError(f"takes longer than {self._options['limit']} s")
        return run


def hardware() -> dict[str, Any]:
    cpu = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    system = re.findall(r'^PRETTY_NAME="(.+)"$', Path("/etc/os-release").read_text(), re.MULTILINE)
    return {
        "processor": f"{len(cpu) or os.cpu_count()} × {cpu[0] if cpu else os.uname().machine}",
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{system[0]}, Linux {os.uname().release}, Python {sys.version.split()[0]}",
        "load": os.getloadavg()[0],
    }


def main(options: Mapping[str, Any]) -> None:
    apt("install", *tools.PACKAGES)
    results: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "hardware": hardware(), "versions": {}, "rows": []}
    wanted = {tool: "" for tool in TOOLS if not options["tools"] or tool.name in options["tools"]}
    for tool in wanted:
        try:
            results["versions"][tool.name] = install(tool)
        except RuntimeError as error:
            wanted[tool] = f"cannot be installed: {error}"
    proved = dict.fromkeys(wanted, 0)

    def attempt(tool: Tool, act: Callable[[Tool], None]) -> None:
        if not wanted[tool]:
            try:
                act(tool)
            except RuntimeError as error:
                wanted[tool] = str(error)

    for count in options["sizes"]:
        contest = Contest(count, options, proved)
        for tool in wanted:
            attempt(tool, contest.prepare)
        for _ in range(options["runs"]):
            for tool in wanted:
                attempt(tool, contest.measure)
        for tool, trouble in wanted.items():
            row = {"tool": tool.name, "files": count, "not_measured": trouble} if trouble else contest.row(tool)
            results["rows"].append(row)
            larger = min((size for size in options["sizes"] if size > count), default=0)
            expected = row.get("wall", 0) * larger / count
            if expected > options["limit"]:
                wanted[tool] = f"would take about {expected / 60:.0f} minutes or more"
        results["hardware"]["load_after"] = os.getloadavg()[0]
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
