"""Secrets: where they come from, and their values, which are read only when a resource needs them."""

from __future__ import annotations

import contextlib
import os
import string
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.errors import KnownAfterApply, NotPermitted, ResourceError
from agent.secret import REDACTED

_ALPHABET = string.ascii_letters + string.digits
_SHORTEST_HIDDEN = 4


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where one secret comes from: a file (made once with `generate` random characters), or a systemd credential."""

    file: str | None = None
    generate: int | None = None
    credential: str | None = None

    @classmethod
    def declared(cls, name: str, table: Mapping[str, Any], folder: Path) -> SecretSource | str:
        """The source that a declaration gives, or a sentence about what is wrong with it."""
        file, length, credential = table.get("file"), table.get("generate"), table.get("credential")
        if not isinstance(file, str | None) or not isinstance(credential, str | None):
            return "file and credential must be strings"
        if length is not None and (not isinstance(length, int) or isinstance(length, bool) or not 8 <= length <= 1024):
            return "generate must be a number of characters, 8 to 1024"
        if credential is not None and (file is not None or length is not None):
            return "credential stands alone: give either credential, or file and generate"
        if credential is None and file is None and length is None:
            return "a secret comes from file = PATH, generate = LENGTH or credential = NAME"
        if credential is None:
            file = str(folder / (file or f"secrets/{name}"))
        return cls(file, length, credential)

    def as_plain(self) -> dict[str, Any]:
        """Itself as a plain table, for the compiled form."""
        return asdict(self)


class Secrets:
    """The secrets of a site. Values are kept in memory for one run and nowhere else."""

    def __init__(self, sources: Mapping[str, SecretSource]) -> None:
        self._sources = sources
        self._values: dict[str, str] = {}
        self._not_made: dict[str, ResourceError] = {}
        self._hidden: list[str] | None = None

    def value(self, name: str) -> str:
        """The value of a secret, without the line end that an editor leaves.

        Raises KnownAfterApply where it is still to be generated, NotPermitted without root, ResourceError else.
        """
        if name not in self._values:
            self._values[name] = self._read(name)
        return self._values[name]

    def _read(self, name: str) -> str:
        source = self._sources[name]
        path = source.file or _credential_path(name, source.credential or "")
        try:
            text = Path(path).read_bytes().decode()
        except FileNotFoundError:
            if name in self._not_made:
                raise self._not_made[name] from None
            if source.generate is not None:
                raise KnownAfterApply(f"the secret {name} is generated first") from None
            raise ResourceError(f"the secret {name} has no value: {path} does not exist") from None
        except PermissionError:
            raise NotPermitted(f"the secret {name} can only be read by root") from None
        except OSError as error:
            raise ResourceError(f"the secret {name} cannot be read from {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ResourceError(f"the secret {name} cannot be read from {path}: it is not UTF-8") from None
        value = text.removesuffix("\n").removesuffix("\r")
        if not value:
            raise ResourceError(f"the secret {name} is empty", hint=f"look at {path}")
        return value

    def generate(self, names: Iterable[str]) -> list[str]:
        """Make those of these secrets that are to be generated and have no value yet; gives the files made.

        One that cannot be made is an error of each resource that asks for its value.
        """
        made = []
        for name in names:
            source = self._sources[name]
            if source.generate is None or not source.file:
                continue
            with contextlib.suppress(OSError):  # of a run that was killed right after it had made the secret
                _temporary(source.file).unlink()
            if not os.path.lexists(source.file):
                try:
                    _write_once(source.file, _random(source.generate))
                except ResourceError as error:
                    self._not_made[name] = error
                else:
                    made.append(source.file)
        return made

    def hide(self, text: str) -> str:
        """The text without the secrets of this site: what a program says may well hold one."""
        if self._hidden is None:
            for name in self._sources:
                with contextlib.suppress(ResourceError):
                    self.value(name)
            values = self._values.values()
            parts = {part for value in values for part in (value, *value.splitlines()) if len(part) >= _SHORTEST_HIDDEN}
            self._hidden = sorted(parts, key=len, reverse=True)
        for part in self._hidden:
            text = text.replace(part, REDACTED)
        return text


def _random(length: int) -> str:
    from secrets import choice

    return "".join(choice(_ALPHABET) for _ in range(length))


def _credential_path(name: str, credential: str) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ResourceError(
            f"the secret {name} is the systemd credential {credential}, and there are no credentials here",
            hint="it is only there for a unit with LoadCredential=",
        )
    return str(Path(folder, credential))


def _temporary(path: str) -> Path:
    return Path(path).with_name(f".{Path(path).name}.state-agent")


def _write_once(path: str, value: str) -> None:
    """Write a new file that only root can read; never over one that exists, whole or not at all."""
    folder = Path(path).parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = _temporary(path)
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                file.write(value + "\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink()
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    except OSError as error:
        raise ResourceError(f"the secret file {path} cannot be made: {error.strerror}") from None
