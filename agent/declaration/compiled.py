"""The compiled form: an unchanged site is not parsed, filled in and validated again.

It holds no secret: secrets stand in it by name. It is keyed by everything that it was made from (the content of every
file read, the files looked for in vain, the results of globs, the facts used, this program's own code), lies in a
root-only folder, is believed only where it belongs to this user and nobody else can write it, and may be deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import agent
from agent.declaration.desired import Desired
from agent.declaration.listing import files
from agent.errors import DeclarationError, Problem
from agent.facts import FACTS
from agent.graph import Entry
from agent.host.child import in_child
from agent.host.private import keep, own_file
from agent.host.secrets import SecretSource
from agent.resources import kind_class
from agent.secret import SecretText

_SECRET = "\0secret"
_RIGHT, _WRONG, _NOT_PLAIN = "right", "wrong", "not plain"
_DIGEST = 32
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Origin:
    """What a desired state was made from: files (also those looked for in vain), and globs below folders."""

    files: Sequence[str]
    listings: Sequence[tuple[str, str]]


def load(site: Path, shipped: Path | None, state_dir: Path) -> Desired:
    """The desired state of a site: from its compiled form where that is still true, else compiled now.

    Raises DeclarationError where the site is wrong. The compiled form is written for the next time, where `state_dir`
    can be written.
    """
    path, code = _place(site, state_dir), _code_key(shipped)
    kept = _read(path, site, code)
    return _desired(site, kept[3]) if kept is not None else _compile(site, shipped, path, code)[1]


def load_apart(site: Path, shipped: Path | None, state_dir: Path) -> tuple[Desired, Origin]:
    """The same, and what it was made from; compiled in a child process, for who stays and has no use for the compiler.

    Raises DeclarationError where the site is wrong, ResourceError where the child cannot do its work.
    """
    path, code = _place(site, state_dir), _code_key(shipped)
    kept = _read(path, site, code)
    if kept is not None:
        contents, listings, _, plain = kept
    else:
        answer = marshal.loads(in_child(lambda: _answer(site, shipped, path, code)))
        if answer[0] == _WRONG:
            raise _problems(*answer[1:])
        if answer[0] == _NOT_PLAIN:
            (contents, listings, _), desired = _compile(site, shipped, path, code)
            return desired, _origin(contents, listings)
        contents, listings, _, plain = answer[1]
    return _desired(site, plain), _origin(contents, listings)


def _origin(contents: Mapping[str, Any], listings: Sequence[tuple[str, str, Any]]) -> Origin:
    return Origin(list(contents), [(folder, pattern) for folder, pattern, _ in listings])


def _answer(site: Path, shipped: Path | None, path: Path, code: Key) -> bytes:
    """What the child says: the plain form, or what is wrong with the site."""
    try:
        made_from, desired = _compile(site, shipped, path, code)
        return marshal.dumps((_RIGHT, (*made_from, _plain(desired))))
    except DeclarationError as error:
        problems = [problem.as_dict() for problem in error.problems]
        return marshal.dumps((_WRONG, problems, error.files, error.listings))
    except ValueError:  # a date: marshal does not know it
        return marshal.dumps((_NOT_PLAIN,))


def _problems(
    problems: Sequence[Mapping[str, Any]], files: list[str], listings: list[tuple[str, str]]
) -> DeclarationError:
    error = DeclarationError([Problem(**problem) for problem in problems])
    error.files, error.listings = files, listings
    return error


def _place(site: Path, state_dir: Path) -> Path:
    return state_dir / "compiled" / hashlib.blake2b(str(site).encode(), digest_size=8).hexdigest()


def _compile(site: Path, shipped: Path | None, path: Path, code: Key) -> tuple[Key, Desired]:
    from agent.declaration.compile import compile_site

    desired, reader, used_facts = compile_site(site, shipped)
    made_from = (
        {name: None if content is None else _digest(content) for name, content in reader.contents.items()},
        [(folder, pattern, found) for (folder, pattern), found in reader.listings.items()],
        used_facts,
    )
    desired.fingerprint = _digest(repr((code, made_from)).encode()).hex()
    if not any(_holds_what_is_sensitive(entry.resource) for entry in desired.entries):
        with contextlib.suppress(ValueError):  # a date: marshal does not know it
            payload = marshal.dumps((code, str(site), marshal.dumps((*made_from, _plain(desired)))))
            keep(path, _digest(payload) + payload)
    return made_from, desired


def _holds_what_is_sensitive(resource: Any) -> bool:
    """Whether a sensitive content stands in the declarations in plain text: it stays there, and nowhere else."""
    texts = (getattr(resource, "content", None), getattr(resource, "rendered", None))
    return getattr(resource, "sensitive", False) and any(isinstance(text, str) for text in texts)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def _code_key(shipped: Path | None) -> Key:
    """What identifies this program's code: its version and when each of its files was written."""
    root = os.path.dirname(agent.__file__)
    stamps = []
    folders = [root]
    while folders:
        for entry in os.scandir(folders.pop()):
            if entry.is_dir():
                folders.append(entry.path)
            elif entry.name.endswith(".py"):
                status = entry.stat()
                stamps.append((entry.path, status.st_mtime_ns, status.st_size))
    return (agent.__version__, sys.version, str(shipped), _digest(repr(sorted(stamps)).encode()))


def _read(path: Path, site: Path, code: Key) -> Key | None:
    """What is kept, where that is still true: contents, listings, facts, plain form."""
    data = own_file(path)
    if _digest(data[_DIGEST:]) != data[:_DIGEST]:
        return None
    try:
        kept_code, kept_site, payload = marshal.loads(memoryview(data)[_DIGEST:])
    except (ValueError, TypeError, EOFError):  # written by a version that kept it otherwise
        return None
    if kept_code != code or kept_site != str(site):
        return None
    kept: Key = marshal.loads(payload)
    return kept if _still_true(*kept[:3]) else None


def _still_true(
    contents: Mapping[str, bytes | None], listings: Sequence[tuple[str, str, list[str]]], used_facts: Mapping[str, Any]
) -> bool:
    for name, digest in contents.items():
        try:
            with open(name, "rb") as file:
                if digest is None or _digest(file.read()) != digest:
                    return False
        except (OSError, ValueError):  # ValueError: a NUL in the path
            if digest is not None:
                return False
    for folder, pattern, found in listings:
        if files(folder, pattern) != found:
            return False
    return all(name in FACTS and FACTS[name][1]() == value for name, value in used_facts.items())


def _plain(desired: Desired) -> tuple[Any, ...]:
    index = {entry.id: i for i, entry in enumerate(desired.entries)}
    entries = [
        (
            entry.resource.kind,
            _plain_fields(entry.resource),
            entry.state,
            entry.source,
            [index[id] for id in entry.requires],
            len(entry.implied),
        )
        for entry in desired.entries
    ]
    sources = {name: source.as_plain() for name, source in desired.sources.items()}
    users = {id: list(names) for id, names in desired.users.items()}
    return entries, sources, dict(desired.states), users, desired.fingerprint


def _plain_fields(resource: Any) -> dict[str, Any]:
    kept = {}
    for field in fields(resource):
        value = getattr(resource, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if field.name != "requires" and (default is MISSING or value != default):
            kept[field.name] = _encoded(value)
    return kept


def _encoded(value: Any) -> Any:
    if isinstance(value, SecretText):
        return (_SECRET, *value.parts)
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, dict):
        return {key: _encoded(item) for key, item in value.items()}
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, tuple) and value[:1] == (_SECRET,):
        return SecretText(value[1:])
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        return {key: _decoded(item) for key, item in value.items()}
    return value


def _desired(site: Path, plain: tuple[Any, ...]) -> Desired:
    rows, sources, states, users, fingerprint = plain
    ids = [f"{kind}:{kept['name']}" for kind, kept, *_ in rows]
    entries = []
    for id, (kind, kept, state, source, needed, implied) in zip(ids, rows, strict=True):
        requires = [ids[i] for i in needed]
        values = _decoded(kept) if id in users else kept
        resource = kind_class(kind)(requires=requires, **values)
        entries.append(Entry(resource, state, source, requires, tuple(requires[len(requires) - implied :])))
    known = {name: SecretSource(**source) for name, source in sources.items()}
    return Desired(site, entries, known, states, users, fingerprint)
