"""systemd units: read many in one call, act on one and wait until it has settled."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence

from agent.errors import CommandFailed, ResourceError
from agent.host.run import Result, failure, observe, run
from agent.host.systemd.unit import PROPERTIES, Unit, parse_units

BOOTED = "/run/systemd/system"
JOB_LIMIT = 300.0
SETTLE_LIMIT = 90.0
PROOF = 0.5
"""Seconds that a service has to live before its start counts: also one that said it is ready may die of its work."""

_JOURNAL_LINES = "15"


def is_booting() -> bool:
    """Whether systemd is still starting what the host boots with."""
    words = ["systemctl", "is-system-running"]
    return os.path.isdir(BOOTED) and observe(words).stdout.strip() in ("initializing", "starting")


class Units:
    """The units of this host, each read once."""

    def __init__(self) -> None:
        self._known: dict[str, Unit] = {}

    def prefetch(self, names: Iterable[str]) -> None:
        """Read all these in one call. Where that fails, `get` says why."""
        wanted = sorted(set(names) - self._known.keys())
        if wanted and os.path.isdir(BOOTED):
            self._known |= parse_units(_show(wanted).stdout, wanted)

    def get(self, name: str) -> Unit:
        """One unit, with its suffix in the name; raises ResourceError where systemd does not run."""
        return self._known[name] if name in self._known else self.fresh(name)

    def fresh(self, name: str) -> Unit:
        """One unit as it is at this moment."""
        if not os.path.isdir(BOOTED):
            raise ResourceError("systemd is not running on this host", hint="units exist only where it is PID 1")
        shown = _show([name])
        unit = parse_units(shown.stdout, [name]).get(name)
        if unit is None:
            raise CommandFailed(f"systemctl show {name} failed", status=shown.status, detail=shown.stderr.strip())
        self._known[name] = unit
        return unit

    def reload_files(self) -> None:
        """Let systemd read all unit files again, where it runs."""
        if os.path.isdir(BOOTED):
            _systemctl("daemon-reload")

    def enable(self, unit: Unit) -> None:
        """Let it start at boot."""
        _systemctl("enable", "--", unit.id)

    def disable(self, unit: Unit) -> None:
        """Let it no longer start at boot."""
        _systemctl("disable", "--", unit.id)
        if unit.file_state == "enabled-runtime":
            _systemctl("disable", "--runtime", "--", unit.id)

    def mask(self, unit: Unit) -> None:
        """Let nothing start it."""
        _systemctl("mask", "--", unit.id)

    def mask_is_barred(self, unit: Unit) -> bool:
        """Whether the administrator's own unit file keeps systemctl from masking it: both have the same path."""
        return os.path.lexists(f"/etc/systemd/system/{unit.id}")

    def unmask(self, unit: Unit) -> Unit:
        """Let it be started again; gives what stands behind the mask. Masks until the next boot go as well."""
        _systemctl("unmask", "--", unit.id)
        _systemctl("unmask", "--runtime", "--", unit.id)
        return self.fresh(unit.id)

    def ran(self, run_dir: str, unit: Unit) -> bool:
        """Whether `note_run` was called for it since the last boot.

        systemd forgets at once that a job ran, unless something else that is loaded refers to its unit.
        """
        return os.path.exists(_note(run_dir, unit))

    def note_run(self, run_dir: str, unit: Unit) -> None:
        """Remember until the next boot that a job of Type=oneshot ended well."""
        os.makedirs(os.path.dirname(_note(run_dir, unit)), mode=0o700, exist_ok=True)
        with open(_note(run_dir, unit), "w", encoding="utf-8"):
            pass

    def forget_run(self, run_dir: str, unit: Unit) -> None:
        """Undo `note_run`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_note(run_dir, unit))

    def stop(self, unit: Unit) -> None:
        """Stop it and wait for that."""
        result = _job("stop", unit)
        if not result.ended_well:
            raise failure(f"systemctl stop {unit.id}", result)
        self._settled(unit.id)

    def bring_up(self, verb: str, unit: Unit) -> Unit:
        """`start`, `restart` or `reload` it, and see that it lives.

        A unit that cannot be reloaded is restarted. Raises ResourceError, with what the unit's journal says since,
        where it does not come up, or dies at once.
        """
        if verb == "reload" and not (unit.up and unit.can_reload):
            verb = "restart"
        if unit.active == "failed":
            _forget_starts(unit)
        since = time.time()
        result = _job(verb, unit)
        after = settled = self._settled(unit.id)
        if after.result == "start-limit-hit":
            _forget_starts(unit)
            result = _job(verb, unit)
            after = settled = self._settled(unit.id)
        unproven = verb == "reload" or after.type != "oneshot"
        if result.ended_well and after.up and unproven and after.id.endswith(".service"):
            time.sleep(PROOF)
            after = self.fresh(unit.id)
        # What waited for its next try counts a start that is asked for as that try: only later ones tell of a death.
        died = after.restarts > (unit.restarts if verb == "reload" else settled.restarts)
        if not result.ended_well or died or not (after.up or after.ended_well):
            raise self._not_up(verb, after, result, since)
        return after

    def _settled(self, name: str) -> Unit:
        deadline = time.monotonic() + SETTLE_LIMIT
        while (unit := self.fresh(name)).moving:
            if time.monotonic() > deadline:
                raise ResourceError(f"{name} is still {unit.state} after {SETTLE_LIMIT:g} s")
            time.sleep(0.1)
        return unit

    def _not_up(self, verb: str, unit: Unit, result: Result, since: float) -> ResourceError:
        if unit.up and not result.ended_well:
            summary = f"{verb} of {unit.id} failed; it is {unit.state}"
        elif result.ended_well and (unit.restarts or unit.waits_to_retry):
            summary = f"{unit.id} dies at once after {verb}, again and again"
        else:
            summary = f"{unit.id} is {unit.state} after {verb}"
        return ResourceError(
            summary,
            detail=_journal(unit.id, since) or result.stderr.strip(),
            hint=f"systemctl status {unit.id}; journalctl -u {unit.id}",
        )


def _forget_starts(unit: Unit) -> None:
    """Every start counts against StartLimitBurst=: without this the sixth restart in 10 s would leave it dead."""
    run(["systemctl", "reset-failed", "--", unit.id], accept=None)


def _systemctl(*words: str) -> None:
    run(["systemctl", "--quiet", *words])


def _job(verb: str, unit: Unit) -> Result:
    try:
        return run(["systemctl", verb, "--", unit.id], accept=None, timeout=JOB_LIMIT)
    except CommandFailed:
        raise ResourceError(f"{verb} of {unit.id} is not done after {JOB_LIMIT:g} s; systemd goes on") from None


def _note(run_dir: str, unit: Unit) -> str:
    return os.path.join(run_dir, "ran", unit.id)


def _show(names: Sequence[str]) -> Result:
    return observe(["systemctl", "show", f"--property={PROPERTIES}", "--", *names])


def _journal(name: str, since: float) -> str:
    run(["journalctl", "--sync"], accept=None)
    only = ["--since", f"@{since:.6f}", "-n", _JOURNAL_LINES, "-o", "cat"]
    return run(["journalctl", "--quiet", "--no-pager", "-u", name, *only], accept=None).stdout.strip()
