"""A systemd unit: whether it runs, starts at boot, is masked, and what it is restarted or reloaded for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import Missing, ResourceError
from agent.fields import Doc, Parsed
from agent.host import Host
from agent.host.systemd.unit import Unit
from agent.resource import Change, Prefetching, Refreshable, Resource, State, Undoable
from agent.sources import At, Below, Source

_SUFFIXES = ("service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice", "scope", "device")


def unit_name(text: str) -> str:
    """A unit's name (systemd.unit(5)); one without a suffix is a service."""
    if not re.fullmatch(r"[A-Za-z0-9:_.\\@-]{1,255}", text):
        raise ValueError(f'"{text}" is not the name of a unit: letters, digits and :-_.\\@ (systemd-escape(1))')
    stem = text.rpartition(".")[0] if text.rpartition(".")[2] in _SUFFIXES else text
    if stem.endswith("@"):
        raise ValueError(f'"{text}" is a template: name an instance of it, such as "{stem}1"')
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Resource, Refreshable, Prefetching, Undoable):
    """A systemd unit of any type, running and starting at boot unless declared otherwise.

    A unit that does not come up, or dies within half a second, fails the resource with the end of its journal.
    When unit files were changed, systemd reads them again before anything else is done with the unit.
    A job that leaves nothing running (Type=oneshot) counts as running once it has ended well.
    """

    kind: ClassVar[str] = "service"
    waits: ClassVar[bool] = True
    not_undone: ClassVar[tuple[str, ...]] = ("unit_file",)
    example: ClassVar[str] = (
        '[file."/etc/default/cron"]\ncontent = "EXTRA_OPTS=-L5\\n"\n\n'
        '[service.cron]\nrestart_on = ["file:/etc/default/cron"]\n'
    )
    needs_of_state: ClassVar[tuple[str, ...]] = (
        "apt", "apt_source", "file", "block", "directory", "link", "command", "user", "group", "gocryptfs",
        "certificate", "keyring", "postgres_role", "postgres_database", "postgres_table", "postgres_rows",
    )  # fmt: skip

    name: Annotated[str, Parsed(unit_name), Doc("The unit; without a suffix such as `.socket` it is a `.service`")]
    ensure: Annotated[
        Literal["present", "absent"], Doc("`absent`: stopped and not starting at boot; its unit file is left alone")
    ] = "present"
    running: Annotated[bool, Doc("Whether it runs")] = True
    enabled: Annotated[
        bool, Doc("Whether it starts at boot; means nothing for units without an `[Install]` section")
    ] = True
    masked: Annotated[bool, Doc("Whether nothing can start it; then it is stopped, whatever `running` says")] = False
    restart_on: Annotated[list[str], Doc("References to what it is restarted for when that changed")] = field(
        default_factory=list
    )
    reload_on: Annotated[
        list[str], Doc("References to what it is reloaded for when that changed; restarted where it cannot reload")
    ] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """Its name with a suffix."""
        return self.identity(self.name)

    @staticmethod
    def identity(name: str) -> str:
        """What all spellings of a name have in common: the name with its suffix."""
        return name if name.rpartition(".")[2] in _SUFFIXES else f"{name}.service"

    @property
    def wants_up(self) -> bool:
        """Whether it is to run, all fields considered."""
        return self.ensure == "present" and self.running and not self.masked

    @property
    def wants_enabled(self) -> bool:
        """Whether it is to start at boot, all fields considered."""
        return self.ensure == "present" and self.enabled

    @classmethod
    def prefetch(cls, host: Host, resources: Sequence[Service]) -> None:
        host.units.prefetch(resource.unit for resource in resources)

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        if self.masked:
            return {"running": False, "masked": True}
        return {"running": self.running, "enabled": self.enabled, "masked": False, "unit_file": "loaded"}

    def read(self, host: Host) -> State | None:
        unit = host.units.get(self.unit)
        state = {
            "running": self._runs(host, unit, self.wants_up),
            "enabled": unit.enabled(self.wants_enabled),
            "masked": unit.masked,
            "unit_file": "changed" if unit.stale else "loaded",
        }
        if self.ensure == "absent":
            return state if state["running"] or state["enabled"] else None
        if not unit.exists and not self.masked:
            raise _missing(self.unit)
        return state

    def _runs(self, host: Host, unit: Unit, wanted: bool) -> bool:
        """Whether it runs, in the strict sense of what is wanted: wholly up, or wholly at rest."""
        if not wanted:
            return not unit.at_rest
        if unit.runs_once and not unit.waits_to_retry:
            ran = unit.exited or host.units.ran(host.run_dir, unit)
            return not unit.at_rest or (unit.ended_well and ran)
        return unit.up

    def foresee(self, host: Host, change: Change) -> None:
        if self.masked and change.touches("masked") and host.units.mask_is_barred(host.units.get(self.unit)):
            raise ResourceError(
                f"{self.unit} cannot be masked: its own file stands where the mask would",
                hint="move it to /usr/local/lib/systemd/system, or declare running = false and enabled = false",
            )

    def apply(self, host: Host, change: Change) -> None:
        self.foresee(host, change)
        mask = self.masked if self.ensure == "present" else None
        self._bring(host, running=self.wants_up, enabled=self.wants_enabled, masked=mask)

    def _bring(self, host: Host, *, running: bool, enabled: bool, masked: bool | None) -> None:
        units = host.units
        unit = self._current(host)
        if unit.masked and masked is False:
            unit = units.unmask(unit)
            if not unit.exists:
                raise _missing(self.unit)
        if not running and not unit.at_rest:
            units.stop(unit)
            units.forget_run(host.run_dir, unit)
        if masked:
            if not unit.masked:
                units.mask(unit)
            return
        if unit.enabled(enabled) != enabled:
            (units.enable if enabled else units.disable)(unit)
        if running and not self._runs(host, unit, True):
            self._bring_up(host, "start", unit)

    def _current(self, host: Host) -> Unit:
        """The unit as it is since this run last changed anything, by the unit files of now."""
        unit = host.units.get(self.unit)
        if unit.stale:
            host.units.reload_files()
            unit = host.units.fresh(self.unit)
        return unit

    def _bring_up(self, host: Host, verb: str, unit: Unit) -> None:
        after = host.units.bring_up(verb, unit)
        if after.runs_once:
            host.units.note_run(host.run_dir, after)

    def listens_to(self) -> Sequence[str]:
        return [*self.restart_on, *self.reload_on]

    def refresh_action(self, causes: Sequence[str]) -> str:
        return "restart" if any(cause in self.restart_on for cause in causes) else "reload"

    def fulfils_refresh(self, change: Change) -> bool:
        """A service that is started needs no restart."""
        return change.touches("running")

    def refresh(self, host: Host, causes: Sequence[str]) -> None:
        """Restart or reload it; one that is not to run is left alone."""
        unit = self._current(host)
        if self.wants_up:
            if not unit.exists:
                raise _missing(self.unit)
            self._bring_up(host, self.refresh_action(causes), unit)

    def watched(self) -> Iterable[Source]:
        own = (self.unit, self.unit.partition("@")[0] + "@.service") if "@" in self.unit else (self.unit,)
        folders = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
        return [At(f"/run/systemd/units/invocation:{self.unit}"), *(Below(folder, own) for folder in folders)]

    def summary(self, host: Host, change: Change) -> str:
        verbs = {
            "masked": ("unmask", "mask"), "enabled": ("disable", "enable"), "running": ("stop", "start"),
            "unit_file": ("", "daemon-reload"),
        }  # fmt: skip
        differing: dict[str, Any] = {each.attribute: each.desired for each in change.attributes}
        words = [verbs[name][bool(differing[name])] for name in verbs if name in differing]
        unit = host.units.get(self.unit)
        failed = unit.active == "failed" or unit.waits_to_retry
        return ", ".join(filter(None, words)) + f"; it is {unit.state}" * failed

    def undo(self, host: Host, before: State | None) -> None:
        if before is None:
            self._bring(host, running=False, enabled=False, masked=None)
        else:
            self._bring(host, running=before["running"], enabled=before["enabled"], masked=before["masked"])


def _missing(unit: str) -> Missing:
    return Missing(f"the unit {unit} does not exist", hint="declare the package or file that brings it")
