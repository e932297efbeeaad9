"""`agent init`: writes a first site."""

from __future__ import annotations

import os
import sys
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path

import click

from agent.cli.options import Common, common_options, default_site, shipped_site, shipped_states
from agent.errors import ResourceError, UsageError

_ASKED = "The domain that this host serves, such as example.net"


@click.command(epilog="Examples:\n\n\b\n  sudo agent init\n  sudo agent init --domain example.net")
@click.option("--domain", metavar="DOMAIN", help="The domain that this host serves; asked for where it is not given.")
@common_options
def init(domain: str | None, common: Common) -> int:
    """Write a first site, for the domain that this host serves.

    It is the site that ships with state-agent. One that is there already is left alone.
    """
    path = Path(os.path.abspath(common.site)) if common.site else default_site()
    if path.is_dir():
        path /= "site.toml"
    if os.path.lexists(path):
        raise UsageError(f"there is a site already: {path}", hint="nothing was touched; edit it, then `agent validate`")
    domain = _checked(_asked() if domain is None else domain)
    _write(path, _text(domain))
    if common.as_json:
        from agent.report.plain import VERSION, dumps

        print(dumps({"version": VERSION, "mode": "init", "site": str(path), "domain": domain}))
    elif not common.quiet:
        print(f"wrote {path} for {domain}\n\nNext:\n{_next_steps(path)}")
    return 0


def _asked() -> str:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the domain", hint="give it: agent init --domain example.net")
    answer: str = click.prompt(_ASKED, err=True)
    return answer


def _checked(domain: str) -> str:
    from agent import fields

    domain = domain.strip().removesuffix(".").lower()
    try:
        fields.hostname(domain)
    except ValueError as error:
        raise UsageError(str(error), hint="nothing was written") from None
    if "." not in domain:
        raise UsageError(f'"{domain}" is no whole domain, such as example.net', hint="nothing was written")
    return domain


def _text(domain: str) -> str:
    """The site that ships, with this domain wherever that has its own."""
    template = shipped_site().read_text(encoding="utf-8")
    return template.replace(tomllib.loads(template)["values"]["domain"], domain)


def _write(path: Path, text: str) -> None:
    """Put a site where none is, whole and valid or not at all."""
    from agent.declaration.compile import compile_site

    temporary = None
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix=".site.", suffix=".toml", dir=path.parent)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(fd, 0o644)
            os.fsync(fd)
        compile_site(Path(temporary), shipped_states())
        os.link(temporary, path)  # unlike a rename never over what somebody else just wrote
    except OSError as error:
        if temporary is not None and isinstance(error, FileExistsError):
            raise UsageError(f"there is a site already: {path}") from None
        hint = "run it with sudo" if isinstance(error, PermissionError) else ""
        raise ResourceError(f"{path} cannot be written: {error.strerror}", hint=hint) from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def _next_steps(path: Path) -> str:
    usual = path == default_site()
    option = "" if usual else f" --site {path}"
    rows = [
        (f"edit {path}", "which states it has, and what they are told"),
        (f"agent apply --check{option}", "shows what would be changed"),
        (f"agent apply{option}", "changes it"),
    ]
    if usual:
        rows.append(("systemctl enable --now state-agent", "keeps it so, from now on"))
    width = max(len(command) for command, _ in rows)
    return "\n".join(f"  {command:<{width}}  {meaning}" for command, meaning in rows)
