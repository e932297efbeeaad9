"""Results as a table and as a plot. report.py RESULTS.json PLOT.svg draws the plot (with matplotlib)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

OURS = "state-agent"
Row = Mapping[str, Any]


def ratio(ours: Row | None, theirs: Row, key: str) -> str:
    """What of theirs ours takes, such as `0.08`; empty where one of them was not measured."""
    if ours is None or theirs is ours or key not in ours or key not in theirs:
        return ""
    return f"{ours[key] / theirs[key]:.3f}".rstrip("0").ljust(4, "0")


def seconds(value: float) -> str:
    """A time with three digits that mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table in Markdown."""
    yield "| files | tool | wall s | CPU s | memory MB | our wall / theirs | our CPU / theirs | our memory / theirs |"
    yield "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    by_place = {(row["files"], row["tool"]): row for row in rows}
    for row in rows:
        if reason := row.get("not_measured"):
            cells = [f"not measured: {reason.splitlines()[0][:120]}", *[""] * 5]
        else:
            ours = by_place.get((row["files"], OURS))
            ratios = [ratio(ours, row, key) for key in ("wall", "cpu", "memory")]
            cells = [seconds(row["wall"]), seconds(row["cpu"]), f"{row['memory']:.0f}", *ratios]
        yield f"| {row['files']:,} | {row['tool']} | " + " | ".join(cells) + " |"


def page(results: Mapping[str, Any]) -> str:
    """The whole page in Markdown."""
    hardware = results["hardware"]
    notes = [
        f"- {hardware['processor']}, {hardware['memory_gb']} GB; {hardware['system']}; {results['date']}; load "
        f"average {hardware['load']:.1f} before and {hardware['load_after']:.1f} after.",
        "- The desired state: so many files with content (about 600 bytes each, in the declaration itself) and mode, "
        "10 packages, 2 services; everything is as declared.",
        "- Each tool's own dry run, as its `check` in `tests/bench/tools.py` says. The first run, which fills caches, "
        "is not counted. Processes are cold, the page cache is warm; the median of several runs, which the tools take "
        "in turn; a single run where it takes longer than 15 s.",
        "- CPU time is user and system; memory is that of the largest process.",
        "- Every tool has proved that it compares: with one content, one mode, one package and one service "
        "changed, its dry run told exactly these four, and nothing of the unchanged host.",
        *(f"- {name}: {version}" for name, version in results["versions"].items()),
    ]
    head = "# A check of an unchanged host\n\nMeasured by `tests/bench/run`, which writes this page.\n"
    return "\n".join([head, *lines(results["rows"]), "", "![wall time and memory](check.svg)", "", *notes, ""])


def plot(results: Mapping[str, Any], target: Path) -> None:
    """Wall time and memory over the number of files, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "state-agent"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.5))
    shown = (("wall", "wall time, s"), ("memory", "memory of the largest process, MB"))
    for axis, (key, label) in zip(axes, shown, strict=True):
        for name in dict.fromkeys(row["tool"] for row in results["rows"]):
            points = [(row["files"], row[key]) for row in results["rows"] if row["tool"] == name and key in row]
            width = 2.5 if name == OURS else 1.2
            axis.plot(*zip(*points, strict=True) if points else ((), ()), marker="o", linewidth=width, label=name)
        axis.set(xscale="log", yscale="log", xlabel="files", ylabel=label)
        sizes = sorted({row["files"] for row in results["rows"]})
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
