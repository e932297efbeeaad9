"""What the common options lead to: files and folders, and the compiled site."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UsageError

if TYPE_CHECKING:
    from agent.declaration.desired import Desired
    from agent.places import Places

_DEFAULT_SITE = Path("/etc/state-agent/site.toml")
_DEFAULT_STATE = "/var/lib/state-agent"
_DEFAULT_RUN = "/run/state-agent"
_PACKAGED_STATES = Path("/usr/share/state-agent/states")


@dataclass(frozen=True)
class Common:
    """The options that every command has."""

    site: str | None = None
    state_dir: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    debug: bool = False

    @property
    def colour(self) -> bool:
        """Whether to write colours to stdout: on a terminal, unless told not to."""
        plain = self.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return sys.stdout.isatty() and not plain

    @property
    def site_place(self) -> Path:
        """Where the site file is or should be."""
        path = Path(self.shown_site)
        return path / "site.toml" if os.path.isdir(path) else path

    @property
    def site_path(self) -> Path:
        """The site file, absolute. Raises UsageError where there is none."""
        path = self.site_place
        if not os.path.exists(path):
            hint = (
                "`agent init` writes one; one elsewhere is given with --site"
                if self.site is None
                else "look at what follows --site"
            )
            raise UsageError(f"there is no site file {path}", hint=hint)
        return Path(os.path.abspath(path))

    @property
    def shown_site(self) -> str:
        """The site file as the user gave it."""
        here = "site.toml"
        return self.site or (here if os.path.exists(here) and not _DEFAULT_SITE.exists() else str(_DEFAULT_SITE))

    @property
    def places(self) -> Places:
        """Where the agent keeps what is its own."""
        from agent.places import Places

        given = self.state_dir or os.environ.get("AGENT_STATE_DIR")
        if given:
            state = Path(os.path.abspath(given))
            return Places(state, state / "run")
        return Places(Path(_DEFAULT_STATE), Path(_DEFAULT_RUN))

    @property
    def desired(self) -> Desired:
        """The compiled site. Raises DeclarationError where it is wrong."""
        from agent.declaration.compiled import load

        given = self.state_dir or os.environ.get("AGENT_STATE_DIR") or _DEFAULT_STATE
        return load(self.site_path, shipped_states(), Path(os.path.abspath(given)))


def shipped_states() -> Path | None:
    """The folder of the states that come with the program."""
    package = Path(__file__).parent.parent
    for path in (package / "shipped-states", package.parent / "states", _PACKAGED_STATES):
        if path.is_dir():
            return path
    return None


def shipped_site() -> Path:
    """The site that comes with the program, from which a first one is made."""
    package = Path(__file__).parent.parent
    places = (package / "shipped-site.toml", package.parent / "site.toml", _PACKAGED_STATES.parent / "site.toml")
    return next(path for path in places if path.is_file())


def default_site() -> Path:
    """Where the site is unless told otherwise."""
    return _DEFAULT_SITE
