"""Globs as a shell understands them: `*` does not find what begins with a dot. Needed even where nothing is parsed."""

from __future__ import annotations

import os

_WILD = frozenset("*?[")


def is_glob(pattern: str) -> bool:
    """Whether a pattern may find several files, or none."""
    return not _WILD.isdisjoint(pattern)


def files(folder: str, pattern: str) -> list[str]:
    """The files that a glob finds, sorted; `**` stands for any depth, and editors' hidden files are left out."""
    import glob

    path = os.path.join(folder, pattern)
    try:
        found = [path] if os.path.isfile(path) else glob.glob(_joined(folder, pattern), recursive=True)
        return sorted({_tidy(path) for path in found if os.path.isfile(path)})
    except (OSError, ValueError):  # no path can match: a NUL, a name that is too long
        return []


def literal(path: str) -> str:
    """The pattern that finds this path alone."""
    import glob

    return glob.escape(path)


def _joined(folder: str, pattern: str) -> str:
    import glob

    return os.path.join(glob.escape(folder), pattern)


def _tidy(path: str) -> str:
    """The path without `..`, where that is still the same file: a link may lie on the way."""
    tidy = os.path.normpath(path)
    return tidy if os.path.realpath(tidy) == os.path.realpath(path) else path
