"""What holds for every kind: its fields are documented, and its example is a valid declaration."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.declaration.compile import compile_site
from agent.declaration.schema import field_docs
from agent.report.reference import kind_page
from agent.resources import KINDS, kind_class


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_documented(kind: str) -> None:
    assert [field.name for field in field_docs(kind) if not field.doc] == []
    assert (kind_class(kind).__doc__ or "").strip()


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_declares_one_of_the_kind(kind: str, tmp_path: Path) -> None:
    example = kind_class(kind).example
    assert kind in tomllib.loads(example)
    assert example.strip() in kind_page(kind)
    for name in files_named(tomllib.loads(example)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "site.toml").write_text(example)
    desired, _, _ = compile_site(tmp_path / "site.toml", None)
    assert any(entry.resource.kind == kind for entry in desired.entries)


def files_named(document: dict[str, dict[str, dict[str, object]]]) -> list[str]:
    """Files beside the declaration that an example names."""
    found = []
    for kind, tables in document.items():
        if kind in KINDS:
            keys = ("template", *getattr(kind_class(kind), "files_beside", ()))
            found += [name for table in tables.values() for key in keys for name in _values(table, key.split("."))]
    return found


def _values(table: Mapping[str, Any], path: Sequence[str]) -> list[str]:
    """The values at a path of keys, of which all but the last hold lists of tables."""
    if len(path) == 1:
        return [str(table[path[0]])] if path[0] in table else []
    return [name for item in table.get(path[0], ()) for name in _values(item, path[1:])]
