"""The page docs/bench/watch.md, from watch.json and soak.json. watch_report.py RESULTS.json PLOT.svg draws."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

OURS = "state-agent"


def repairs(results: Mapping[str, Any]) -> Iterator[str]:
    """The table of times."""
    yield "| tool | damage to | times | p50 ms | p90 ms | p99 ms | longest ms | our p50 / theirs |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    ours = {row["what"]: row["p50"] for row in results["rows"] if row["tool"] == OURS}
    for row in results["rows"]:
        times = " | ".join(f"{row[key]:,.0f}" for key in ("p50", "p90", "p99", "max"))
        own = ours.get(row["what"]) if row["tool"] != OURS else None
        ratio = f"{own / row['p50']:.4f}" if own else ""
        yield f"| {row['tool']} | {row['what']} | {row['damages']:,} | {times} | {ratio} |"
    for name, why in results["not_measured"].items():
        yield f"| {name} | not measured: {why.splitlines()[0][:120]} | | | | | | |"


def costs(results: Mapping[str, Any]) -> Iterator[str]:
    """The table of what it takes to stay."""
    yield (
        "| tool | resources | CPU % | wake-ups | processes started | by it | processes | largest, MB | together, MB "
        "| `status` ms | `status --json` ms |"
    )
    yield "| --- |" + " ---: |" * 10
    for row in results["sizes"]:
        times = [f"{1000 * row['status'][form]:.0f}" if "status" in row else "" for form in ("text", "json")]
        cells = [f"{row['cpu_percent']:.3f}", row["wakes"], row["started"], "some" if row["by_it"] else "none"]
        cells += [row["processes"], row["rss_mb"], row["pss_mb"], *times]
        yield f"| {row['tool']} | {row['resources']:,} | {' | '.join(map(str, cells))} |"


def soaked(found: Mapping[str, Any]) -> str:
    """The sentence on the soak."""
    rss, done = found["rss_mb"], found["done"]
    quarters = [rss[len(rss) * quarter // 4] for quarter in (1, 2, 3)]
    end = "as declared" if not found["differing"] and not found["not_whole"] else f"with {found['differing']} wrong"
    kinds = ", ".join(f"{count:,} × {name}" for name, count in done.items())
    return (
        f"{found['damages']:,} random damages with seed {found['seed']} in a site of {found['resources']:,} resources, "
        f"in bursts ({kinds}; {found['already_broken']:,} found nothing whole to damage): the host ended {end}, "
        f"{found['calm_after_s']:.0f} s after the last one. Resident memory: {rss[0]} MB at the start, "
        f"{', '.join(map(str, quarters))} MB after each quarter, {rss[-1]} MB at the end. "
        f"Load {found['load']:.1f}; {found['date']}."
    )


def notes(results: Mapping[str, Any]) -> Iterator[str]:
    hardware, options = results["hardware"], results["options"]
    load, after = hardware["load"], hardware["load_after"]
    yield (
        f"- {hardware['processor']}, {hardware['memory_gb']} GB; {hardware['system']}; {results['date']}; load average "
        f"{load:.1f} before and {after:.1f} after."
    )
    if max(load, after) > 3:
        yield "- **The machine was busy with other work**: these figures show that the measurement works, and no more."
    yield (
        "- One damage at a time, each thing in its turn, by the unit `state-agent.service` as the package installs it. "
        "Files are written to, deleted, replaced or chmodded; a rule is deleted with `iptables -D`; gocryptfs is "
        "unmounted as `umount -l` does; a unit is stopped; an index or a column is dropped."
    )
    yield (
        "- A repair is timed from before the damage to the moment at which the thing is seen whole: read again, "
        "mounted, in the catalog; for rules between the kernel's two notices, for units between systemd's own marks."
    )
    yield (
        f"- Idle for {options['idle']:g} s, peers for {options['peer_idle']:g} s. Wake-ups are voluntary context "
        "switches of all threads that live; processes and threads started are those of the whole host, PostgreSQL's "
        "own among them; whether any were started by the tool shows in what its children took. Memory: of the largest "
        "process (RSS), and of all with shared pages counted once (PSS)."
    )
    lost = {row["tool"]: row["lost"] for row in results["sizes"] if row.get("lost")}
    said = "; ".join(f"{name} never repaired {count} of {options['peer_damages']}" for name, count in lost.items())
    yield (
        "- Peers look after the files alone. Salt: a master and a minion on this host with the inotify beacon and the "
        "reactor, both at the shortest interval (1 s); the cost is the minion's. CFEngine: cf-execd, whose shortest "
        "interval is a minute; the cost is with what it starts. Puppet: an agent that begins again after a second; the "
        f"cost is the agent's, for its server may be elsewhere.{' ' + said + '.' if said else ''}"
    )
    yield from (f"- {name}: {version}" for name, version in results["versions"].items())


def put(folder: Path) -> str:
    """Write the page, from what has been measured so far; gives it."""
    parts = ["# The resident agent\n\nMeasured by `tests/bench/watch` and `tests/bench/soak`, which write this page.\n"]
    if (folder / "watch.json").exists():
        results = json.loads((folder / "watch.json").read_text())
        parts += ["## From the damage to the repaired state\n", *repairs(results), "", "![times](watch.svg)", ""]
        parts += ["## What it costs to stay\n", *costs(results), "", *notes(results), ""]
    if (folder / "soak.json").exists():
        parts += ["## Soak\n", soaked(json.loads((folder / "soak.json").read_text())), ""]
    text = "\n".join(parts)
    (folder / "watch.md").write_text(text)
    return text


def plot(results: Mapping[str, Any], target: Path) -> None:
    """How many repairs were done within a time, the time logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "state-agent"
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 4.5))
    for row in results["rows"]:
        parts = [100 * (number + 1) / len(row["ms"]) for number in range(len(row["ms"]))]
        ours = row["tool"] == OURS
        axis.step(
            row["ms"], parts, where="post", linestyle="-" if ours else "--", label=f"{row['tool']}: {row['what']}"
        )
    axis.set(xscale="log", xlabel="ms from the damage to the repair", ylabel="% of repairs", ylim=(0, 101))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
