"""The contract of a resource: what every kind is, and the small roles that some kinds play.

A kind is one frozen dataclass in `agent/resources/`. Its annotated fields are the schema of the declaration
(pydantic validates against them), and its documentation (`agent docs`). It says what is desired, reads
what is actual, and can bring the one to the other; it never knows which command is asking.

A state (in code: `State`) is a flat table of attributes; None stands for "absent". Only attributes that
the resource manages stand in the desired state; the engine compares those and ignores what else was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from agent.fields import Doc, TimeSpan
from agent.sources import At, Source

if TYPE_CHECKING:
    from agent.host import Host

State = Mapping[str, Any]

LISTENING = ("restart_on", "reload_on", "refresh_on")
"""Fields that hold references to what a resource listens to."""


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """One attribute that differs; None stands for "not there"."""

    attribute: str
    actual: Any
    desired: Any


@dataclass(frozen=True, slots=True)
class Change:
    """What an apply has to bring about: from the state read to the state desired."""

    actual: State | None
    desired: State | None
    attributes: tuple[AttributeChange, ...]

    def touches(self, *names: str) -> bool:
        """Whether one of these attributes differs."""
        return any(change.attribute in names for change in self.attributes)


def differences(actual: State | None, desired: State | None) -> Change | None:
    """The change that leads from actual to desired, or None where nothing is to do."""
    if desired is None:
        if actual is None:
            return None
        return Change(actual, None, tuple(AttributeChange(name, value, None) for name, value in actual.items()))
    present = actual or {}
    changes = tuple(
        AttributeChange(name, present.get(name), value)
        for name, value in desired.items()
        if name not in present or present[name] != value
    )
    if actual is not None and not changes:
        return None
    return Change(actual, desired, changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What every kind has in common; a kind derives from it and adds its fields."""

    kind: ClassVar[str]
    example: ClassVar[str] = ""
    """TOML that declares one; shown by `agent docs` and applied by a test."""
    needs_of_state: ClassVar[tuple[str, ...]] = ("apt",)
    """Kinds of its own state that come before it without being named."""
    pending: ClassVar[str] = "changes first"
    """What is said of it to those whose state cannot be known before it was applied."""
    previewed: ClassVar[tuple[str, ...]] = ()
    """Attributes whose difference `preview` shows word for word, so that a plan need not list it as well."""
    reaches_far: ClassVar[bool] = True
    """Whether its change may have effects that no requirement tells of, such as those of a program."""
    looks_every: ClassVar[str] = "1h"
    """The default of `check_every`: rarely where events tell, more often where none does."""

    reads_with: ClassVar[tuple[str, ...]] = ()
    """Large modules that `read` imports: worth having while something else is waited for."""

    name: str
    requires: Annotated[
        list[str], Doc("References (`kind:name`, `kind:pattern*`, `state:name`) that come first, and must succeed")
    ] = field(default_factory=list)
    drift: Annotated[
        Literal["repair", "report"], Doc("What the resident agent does when it drifts: put it right, or only say so")
    ] = "repair"
    check_every: Annotated[
        TimeSpan | None, Doc("How often the resident agent reads it again, whether an event told or not")
    ] = None
    on_removal: Annotated[
        Literal["keep", "undo"],
        Doc("Once its declaration is removed: leave what was made alone, or undo it"),
    ] = "keep"

    @property
    def id(self) -> str:
        """Its one name in the whole site: `kind:name`."""
        return f"{self.kind}:{self.name}"

    @property
    def links(self) -> tuple[str, ...]:
        """Declared symbolic links among its requirements: the only ones that its paths may lead through."""
        return tuple(ref.removeprefix("link:") for ref in self.requires if ref.startswith("link:"))

    def problems(self) -> Iterable[str]:
        """Sentences about what is wrong across its fields; the fields themselves are already validated."""
        return ()

    def desired(self, host: Host) -> State | None:
        """The state that the declaration asks for. Looks at nothing but the declaration, facts and secrets."""
        raise NotImplementedError

    def read(self, host: Host) -> State | None:
        """The state that the host is in. Changes nothing.

        Raises Missing where it cannot be told before something else is there, NotPermitted without root.
        """
        raise NotImplementedError

    def apply(self, host: Host, change: Change) -> None:
        """Carry the whole change out, or raise ResourceError."""
        raise NotImplementedError

    def foresee(self, host: Host, change: Change) -> None:
        """Raise ResourceError where it shows already that the change cannot be made, so that a plan says so, too."""

    def check_offered(self, host: Host, planned: Iterable[Resource]) -> None:
        """Raise ResourceError where what it needs from elsewhere is not offered, for `apply --check` alone to say.

        An apply may find it yet, because it asks anew. `planned` are those that would be changed before it.
        """

    def implied_requires(self) -> Iterable[str]:
        """References that come first where they are declared."""
        return ()

    def paths(self) -> Iterable[str]:
        """Absolute paths that it makes: their declared parent directories, links and mounts come first.

        One that ends with `/` is a folder that is its own with all it holds: no `purge` looks into it.
        """
        return ()

    def leads_to(self) -> str:
        """The absolute path in which that really lies what lies below its own; nothing where that is its own."""
        return ""

    def claims(self) -> Iterable[tuple[str, str]]:
        """Things that are not its own alone, each with what it makes of it: two resources must not contradict."""
        return ()

    def watched(self) -> Iterable[Source]:
        """Where its drift shows as it happens. What nothing tells of is seen by `check_every`."""
        return tuple(At(path.rstrip("/")) for path in self.paths())

    def summary(self, host: Host, change: Change) -> str:  # noqa: ARG002
        """A few words for the plan where they say more than the list of attributes does, or nothing."""
        return ""

    def preview(self, host: Host, change: Change) -> Sequence[str]:  # noqa: ARG002
        """What will be carried out, word for word, where attributes alone do not say it: SQL, rules. No secrets."""
        return ()

    def text_of(self, state: State | None) -> bytes | None:  # noqa: ARG002
        """The content of a state that a text diff is made of; None where there is none to show."""
        return None

    def hides(self, change: Change | None) -> str:  # noqa: ARG002
        """The folder whose content nobody can know before this change is made (None: not known itself), or nothing."""
        return ""

    def temporaries(self) -> Iterable[str]:
        """Files that a killed apply may leave behind; the next run removes them."""
        return ()


class Refreshable:
    """A role: restarts, reloads or runs because something it listens to was changed."""

    __slots__ = ()

    def listens_to(self) -> Sequence[str]:
        """References to what it listens to. They are requirements as well."""
        raise NotImplementedError

    def refresh_action(self, causes: Sequence[str]) -> str:
        """One word for what a refresh does, such as `reload`; `causes` are ids of what was changed."""
        raise NotImplementedError

    def fulfils_refresh(self, change: Change) -> bool:
        """Whether a change of its own already does what a refresh would."""
        raise NotImplementedError

    def refresh(self, host: Host, causes: Sequence[str]) -> None:
        """Do it, or raise ResourceError."""
        raise NotImplementedError


class Groupable:
    """A role: all changes of this kind that are due together are carried out in one go."""

    __slots__ = ()

    @classmethod
    def apply_group(cls, host: Host, items: Sequence[tuple[Any, Change]]) -> Mapping[str, Exception]:
        """Carry all these changes out; gives the errors of those that failed, by id."""
        raise NotImplementedError


class Prefetching:
    """A role: what many resources of the kind need to know is read at once."""

    __slots__ = ()
    waits: ClassVar[bool] = False
    """Whether `prefetch` mostly waits for programs or the network: it is called in a thread, beside others such."""

    @classmethod
    def prefetch(cls, host: Host, resources: Sequence[Any]) -> None:
        """Read in bulk what `read` of all these will ask for."""
        raise NotImplementedError


class Undoable:
    """A role: can go back to the state in which it was found."""

    __slots__ = ()
    not_undone: ClassVar[tuple[str, ...]] = ()
    """Attributes that only say how well it is kept: there is nothing to put back."""
    undone_whole: ClassVar[bool] = False
    """Whether its attributes go back together; else only those that were changed do."""

    def cannot_undo(self, host: Host, before: State | None) -> str:  # noqa: ARG002
        """What of it `undo` cannot put back, in a few words, or nothing: said before it is asked to. Changes nothing.

        Raises ResourceError where none of it can be put back.
        """
        return ""

    def undo(self, host: Host, before: State | None) -> None:
        """Put the state before the first change back; None means it was not there.

        Raises Degraded where it could be put back in part, ResourceError where it could not.
        """
        raise NotImplementedError


class Manual:
    """A role: (some of) its differences only people can put right. They are listed, and fail nothing."""

    __slots__ = ()

    def by_hand(self, change: Change) -> str:
        """What people have to do, in a few words; empty where the agent does it itself."""
        raise NotImplementedError


class Checking:
    """A role: never a change, but an acceptance check that passes or fails."""

    __slots__ = ()

    def check(self, host: Host) -> str:
        """Run the check; gives what was seen, raises ResourceError where it fails."""
        raise NotImplementedError
