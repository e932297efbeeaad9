"""The section on sealing of docs/bench/README.md, from the results in docs/bench/seal.json."""

from __future__ import annotations

import json
from pathlib import Path

HEADING = "## Sealing mail"


def section(folder: Path) -> str:
    """The section; nothing where it was never measured."""
    file = folder / "seal.json"
    if not file.exists():
        return ""
    results = json.loads(file.read_text())
    lines = [
        f"\n{HEADING}\n",
        "Messages a second, by `tests/bench/seal` on a disposable Debian 13. The limit is gpg alone, with the same "
        "options, on the same message.\n",
        "| message | at a time | gpg alone | agent seal | Perl, Mail::GnuPG | ours / gpg | ours / Perl "
        "| CPU ms, gpg alone | agent seal | gpg / ours |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in results["rows"]:
        alone, ours, perl = (row["rate"][name] for name in ("gpg alone", "agent seal", "Mail::GnuPG"))
        least, cost = row["cpu_ms"]["gpg alone"], row["cpu_ms"]["agent seal"]
        lines.append(
            f"| {row['size']} | {row['at_once']} | {alone:g} | {ours:g} | {perl:g} | {ours / alone:.2f} "
            f"| {ours / perl:.1f} | {least:g} | {cost:g} | {least / cost:.2f} |"
        )
    lines += [
        f"\n- The service held at most {results['peak_kb'] / 1000:.0f} MB in memory (VmHWM), over all of this.",
        f"- {results['cpus']} CPUs, which the sender and the LMTP server behind share; load average "
        f"{results.get('load', 0):.1f} after; {results['gpg']}; Python {results['python']}; {results['date']}.",
        "- `agent seal` is the LMTP service, as Postfix uses it; the Perl filter is one process per message, as in "
        "Postfix's pipe(8).",
        "- CPU time is that of one message, without the sender and the server behind. With two at a time these two "
        "want the processors as well, which gpg alone has for itself. Starting gpg counts for `agent seal`, and not "
        "for gpg alone, where it is the bench that starts it.\n",
    ]
    if results.get("load", 0) > 1.5 * results["cpus"]:
        busy = "- **The machine was busy with other work**: several processes gain by that over one, so a"
        lines[-1:] = [lines[-1].rstrip("\n"), f"{busy} ratio above 1 only says that gpg is what takes the time.\n"]
    return "\n".join(lines)


def put(folder: Path) -> None:
    """Write the section anew into README.md."""
    readme = folder / "README.md"
    before = readme.read_text().partition(f"\n{HEADING}\n")[0] if readme.exists() else "# Benchmarks\n"
    readme.write_text(before.rstrip("\n") + "\n" + section(folder))
