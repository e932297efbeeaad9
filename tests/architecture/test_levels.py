"""Imports point downward only, without cycles, and kinds do not know one another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = {
    "agent.errors": 0,
    "agent.places": 0,
    "agent.host": 1,
    "agent.fields": 1,
    "agent.secret": 1,
    "agent.resource": 2,
    "agent.sources": 1,
    "agent.facts": 2,
    "agent.resources": 3,
    "agent.declaration": 4,
    "agent.graph": 4,
    "agent.journal": 4,
    "agent.engine": 5,
    "agent.report": 5,
    "agent.mail": 5,
    "agent.watch": 5,
    "agent.cli": 6,
    "agent.__main__": 6,
    "agent": 0,
}
MODULES = sorted((ROOT / "agent").rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def level(module: str) -> int:
    while module not in LEVELS:
        module = module.rpartition(".")[0]
    return LEVELS[module]


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """Modules of ours that a module imports; those inside functions only with `lazy`, those for types never."""
    stack: list[ast.AST] = [ast.parse(path.read_text())]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef) and not lazy:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "agent")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "agent":
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                known = {name_of(module) for module in MODULES}
                yield deeper if deeper in known else str(node.module)
        stack.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downward(path: Path) -> None:
    upward = [name for name in imports(path, lazy=True) if level(name) > level(name_of(path))]
    assert not upward


def test_kinds_do_not_import_one_another() -> None:
    kinds = [path for path in MODULES if path.parent.name == "resources" and path.stem != "__init__"]
    assert kinds
    found = {name_of(path): [name for name in imports(path, lazy=True) if ".resources." in name] for path in kinds}
    assert not any(found.values()), found


def test_no_import_cycles() -> None:
    edges = {name_of(path): set(imports(path, lazy=False)) for path in MODULES}
    done: set[str] = set()

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join((*above, name))
        if name not in done:
            for other in edges.get(name, ()):
                if other != name:
                    walk(other, (*above, name))
            done.add(name)

    for name in edges:
        walk(name, ())


def test_only_the_host_room_starts_programs_or_touches_the_system() -> None:
    forbidden = {"subprocess", "sh", "socket", "fcntl", "ctypes"}
    allowed = ("agent.host", "agent.facts")
    for path in MODULES:
        names = {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
        }
        if not name_of(path).startswith(allowed):
            assert not names & forbidden, name_of(path)
