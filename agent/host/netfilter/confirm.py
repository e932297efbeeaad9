"""New rules on probation: whoever loads them confirms that the host can still be reached, or the old ones come back.

A process of its own (`python -m agent.host.netfilter.confirm`) puts the old rules back. It is started before the new
ones are loaded, in a session and, where systemd runs, a scope of its own: it outlives the agent, and the connection
over which that was started. What becomes of the file `pending` decides: whoever renames it first has won.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import AgentError, ResourceError
from agent.host.netfilter.iptables import Netfilter
from agent.host.netfilter.ownchains import Place, is_jump, own_chain, places_of, transition
from agent.host.netfilter.ruleset import BUILT_IN, Ruleset, parse

if TYPE_CHECKING:
    from agent.host import Host

_POLL = 0.1
_GRACE = 10.0
_MARKER = "firewall.unconfirmed"


@contextmanager
def confirmed(host: Host, netfilter: Netfilter, old: Mapping[str, Ruleset], edits: Mapping[str, str]) -> Iterator[bool]:
    """Rules are loaded within; gives whether they are on probation, and then waits for how that ends.

    Raises ResourceError where nobody confirmed them, and before they are loaded where that was so the last time.
    """
    marker, digest = Path(host.state_dir, _MARKER), _digest(edits)
    if host.confirm_within is None:
        if marker.exists() and marker.read_text() == digest:
            raise ResourceError(
                "these rules were put back before, because nobody confirmed them; nothing was touched",
                hint="change them, or load them with `agent apply --confirm SECONDS`",
            )
        yield False
        return
    folder = Path(host.run_dir, "confirm")
    _arm(folder, netfilter, old, host.confirm_within)
    marker.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker.write_text(digest)
    try:
        yield True
    except BaseException:
        with suppress(OSError):
            (folder / "pending").unlink()
        raise
    host.progress(
        f"waiting {host.confirm_within:g} s: press Enter, or run `agent confirm`, once a second connection has worked"
    )
    if not _wait(folder, host.confirm_within):
        raise ResourceError(
            f"nobody confirmed the new rules within {host.confirm_within:g} s: the old ones are back",
            hint="`agent confirm` in a second connection confirms them, or Enter where `agent apply` waits",
        )
    marker.unlink(missing_ok=True)


def confirm(run_dir: Path, state_dir: Path) -> bool:
    """Confirm the rules that are on probation; gives whether there are any."""
    with suppress(FileNotFoundError):
        (run_dir / "confirm" / "pending").rename(run_dir / "confirm" / "confirmed")
        (state_dir / _MARKER).unlink(missing_ok=True)
        return True
    return False


def _digest(edits: Mapping[str, str]) -> str:
    """What tells whether it is the same rules again: their text, without how they come to their places."""
    lines = [f"{family} {line}" for family, text in edits.items() for line in text.splitlines() if line[:2] != "-D"]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _arm(folder: Path, netfilter: Netfilter, old: Mapping[str, Ruleset], seconds: float) -> None:
    """Start the process that puts the old rules back; it runs when this returns."""
    _refuse_another(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    kept = {
        "until": time.time() + seconds,
        "namespace": netfilter.namespace.path,
        "programs": dict(netfilter.programs),
        "old": {family: ruleset.text for family, ruleset in old.items()},
    }
    (folder / "old").write_text(json.dumps(kept))
    (folder / "pending").touch()
    command = [sys.executable, "-P", "-m", "agent.host.netfilter.confirm", str(folder), f"{seconds:g}"]
    scope = [
        "systemd-run",
        "--scope",
        "--quiet",
        "--collect",
        "--description=firewall rules of state-agent on probation",
    ]
    if not (Path("/run/systemd/system").is_dir() and _start([*scope, *command])) and not _start(command):
        raise ResourceError("the process that would put the old rules back does not start; nothing was touched")


def _refuse_another(folder: Path) -> None:
    """Raise ResourceError where other rules are on probation, unless that should have ended long ago."""
    with suppress(OSError, ValueError):
        until = json.loads((folder / "old").read_text())["until"]
        waits = (folder / "pending").exists() or (folder / "reverting").exists()
        if waits and time.time() < until + _GRACE:
            raise ResourceError("other new rules still wait for `agent confirm`; nothing was touched")


def _start(command: Sequence[str]) -> bool:
    package = str(Path(__file__).parents[3])
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
            env={**os.environ, "PYTHONPATH": package}, start_new_session=True,
        )  # fmt: skip
    except OSError:
        return False
    assert process.stdout is not None
    with process.stdout as said:
        return bool(said.readline())


def _wait(folder: Path, seconds: float) -> bool:
    """Wait for somebody to confirm, or for the old rules to be back."""
    deadline = time.monotonic() + seconds + _GRACE
    listens = _listens()
    while time.monotonic() < deadline:
        if (folder / "confirmed").exists():
            return True
        if (folder / "reverted").exists():
            return False
        if not listens:
            time.sleep(_POLL)
        elif select.select([sys.stdin], [], [], _POLL)[0]:
            listens = _entered()
            if listens:
                with suppress(FileNotFoundError):
                    (folder / "pending").rename(folder / "confirmed")
    try:
        _revert(folder, again=True)  # the process that should have done it is gone, or was refused
    except AgentError as error:
        raise ResourceError(
            "nobody confirmed the new rules, and the old ones could not be put back: the new ones are in force",
            detail=str(error), hint="put right what is said above, or the rules, before this connection ends",
        ) from None  # fmt: skip
    return False


def _listens() -> bool:
    """Whether somebody can press Enter; what was typed before the question is no answer."""
    with suppress(OSError, ValueError, AttributeError, termios.error):
        if os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp():
            termios.tcflush(sys.stdin, termios.TCIFLUSH)
            return True
    return False


def _entered() -> bool:
    """Whether a line came, and not the end of the terminal."""
    try:
        return bool(sys.stdin.readline())
    except OSError:
        return False


# The process that puts the old rules back


def _watch(folder: Path, seconds: float) -> None:
    print("armed", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not (folder / "pending").exists():
            return
        time.sleep(_POLL)
    _revert(folder)


def _revert(folder: Path, *, again: bool = False) -> None:
    """Put the old rules back, unless somebody else has won; `again` also where another process began with that."""
    try:
        (folder / "pending").rename(folder / "reverting")
    except FileNotFoundError:
        if not again or not (folder / "reverting").exists():
            return
    kept = json.loads((folder / "old").read_text())
    netfilter = Netfilter(kept["namespace"], kept["programs"])
    put_back(netfilter, {family: parse(text) for family, text in kept["old"].items()})
    with suppress(FileNotFoundError):
        (folder / "reverting").rename(folder / "reverted")


def put_back(netfilter: Netfilter, old: Mapping[str, Ruleset]) -> None:
    """Bring the agent's own chains and the policies back to what they were; where that fails, everything."""
    netfilter.forget()
    for family, before in old.items():
        try:
            netfilter.restore(family, _way_back(netfilter.live(family), before))
        except AgentError:
            netfilter.restore(family, _everything(before), flush=True)
    netfilter.forget()


def _way_back(live: Ruleset, before: Ruleset) -> str:
    places = {**places_of(live, ()), **places_of(before, ())}
    content = {place: before.rules(place[0], own_chain(place[1])) for place in places.values()}
    policies = {
        (table, chain): before.policy(table, chain) for table in live.tables for chain in BUILT_IN.get(table, ())
    }
    return transition(live, content, policies, lambda place: _ahead(before, place))


def _ahead(before: Ruleset, place: Place) -> list[str]:
    """Patterns of the rules of others that stood ahead of the jump, and stay there."""
    table, chain = place
    rules = before.rules(table, chain)
    jump = next((number for number, rule in enumerate(rules) if is_jump(rule, own_chain(chain))), 0)
    return [f"^{re.escape(f'-A {chain} {rule}')}$" for rule in rules[:jump]]


def _everything(before: Ruleset) -> str:
    """The old rules whole; tables that nobody had used become empty again."""
    text = before.text
    for table in BUILT_IN.keys() - before.tables.keys():
        text += "\n".join([f"*{table}", *(f":{chain} ACCEPT [0:0]" for chain in BUILT_IN[table]), "COMMIT", ""])
    return text


if __name__ == "__main__":
    _watch(Path(sys.argv[1]), float(sys.argv[2]))
