"""One systemd unit: what `systemctl show` says of it, and what follows from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,FragmentPath,NeedDaemonReload,CanReload,Result,Type,"
    "RemainAfterExit,NRestarts,ExecMainExitTimestampMonotonic"
)
_OFF = ("disabled", "linked", "linked-runtime", "masked", "masked-runtime", "bad")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What systemd knows of one unit, in its own words (org.freedesktop.systemd1(5))."""

    id: str
    load: str = "loaded"
    active: str = "inactive"
    sub: str = "dead"
    file_state: str = ""
    fragment: str = ""
    result: str = "success"
    type: str = ""
    remains: bool = False
    stale: bool = False
    can_reload: bool = False
    exited: bool = False
    restarts: int = 0

    @property
    def exists(self) -> bool:
        """Whether there is a unit file of it, or something that stands for one."""
        return self.load != "not-found"

    @property
    def masked(self) -> bool:
        """Whether it can not be started by anything."""
        return self.load == "masked" or self.file_state.startswith("masked")

    @property
    def up(self) -> bool:
        """Whether it has come up."""
        return self.active in ("active", "reloading", "refreshing")

    @property
    def at_rest(self) -> bool:
        """Whether nothing of it runs, and nothing is about to."""
        return self.active in ("inactive", "failed")

    @property
    def moving(self) -> bool:
        """Whether it is on its way to another state; a service that waits for its next try is not."""
        return self.active in ("activating", "deactivating", "reloading", "refreshing") and not self.waits_to_retry

    @property
    def waits_to_retry(self) -> bool:
        """Whether it died and will be started again (Restart= in systemd.service(5))."""
        return self.sub.startswith("auto-restart")

    @property
    def runs_once(self) -> bool:
        """Whether it is a job that leaves nothing running: Type=oneshot without RemainAfterExit=."""
        return self.type == "oneshot" and not self.remains and self.id.endswith(".service")

    @property
    def ended_well(self) -> bool:
        """Whether it is such a job and nothing is known against it. It may also never have run."""
        return self.runs_once and self.active == "inactive" and self.result == "success"

    @property
    def state(self) -> str:
        """Its state in one phrase, such as `active (running)` or `failed (exit-code)`."""
        return f"{self.active} ({self.result if self.active == 'failed' else self.sub})"

    def enabled(self, wanted: bool) -> bool:
        """Whether it starts at boot. Of a unit that has nothing to enable (static, generated…) it is what is `wanted`.

        One that is enabled until the next boot only is neither: never what is wanted.
        """
        if self.file_state == "enabled":
            return True
        if self.file_state in _OFF:
            return False
        if self.file_state == "enabled-runtime" and _has_install_section(self.fragment):
            return not wanted
        return wanted


def parse_units(text: str, names: Sequence[str]) -> dict[str, Unit]:
    """The units in the output of `systemctl show` for these names: one paragraph each, in the order of the names."""
    paragraphs = [paragraph for paragraph in text.strip().split("\n\n") if paragraph]
    if len(paragraphs) != len(names):
        return {}
    return {name: _unit(paragraph) for name, paragraph in zip(names, paragraphs, strict=True)}


def _unit(paragraph: str) -> Unit:
    properties: Mapping[str, str] = dict(line.partition("=")[::2] for line in paragraph.splitlines())
    return Unit(
        id=properties["Id"],
        load=properties["LoadState"],
        active=properties["ActiveState"],
        sub=properties["SubState"],
        file_state=properties["UnitFileState"],
        fragment=properties.get("FragmentPath", ""),
        result=properties.get("Result", "success"),
        type=properties.get("Type", ""),
        remains=properties.get("RemainAfterExit") == "yes",
        stale=properties["NeedDaemonReload"] == "yes",
        can_reload=properties["CanReload"] == "yes",
        exited=properties.get("ExecMainExitTimestampMonotonic", "0") != "0",
        restarts=int(properties.get("NRestarts", "0")),
    )


def _has_install_section(fragment: str) -> bool:
    try:
        with open(fragment, encoding="utf-8", errors="replace") as file:
            return any(line.strip() == "[Install]" for line in file)
    except OSError:
        return False
