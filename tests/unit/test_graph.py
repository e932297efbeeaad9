"""Order, circles and implied requirements, against graphs made by chance."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.graph import Entry, Graph, with_requirements
from agent.resource import Resource
from agent.resources.apt import Apt
from agent.resources.command import Command
from agent.resources.directory import Directory
from agent.resources.file import File
from agent.resources.service import Service


def entry(resource: Resource, requires: Sequence[str] = (), state: str = "s") -> Entry:
    return Entry(resource, state, "site.toml:1", list(requires))


def commands(edges: Mapping[str, Sequence[str]]) -> Graph:
    made = [
        entry(Command(name=name, run=["true"]), [f"command:{other}" for other in edges[name]]) for name in edges
    ]  # fmt: skip
    return Graph(made)


def order(graph: Graph) -> list[str]:
    return [each.id.partition(":")[2] for each in graph.in_order()]


names = st.sampled_from("abcdefgh")
graphs = st.dictionaries(names, st.lists(names, unique=True, max_size=4), max_size=8).map(
    lambda edges: {name: [other for other in needed if other in edges] for name, needed in edges.items()}
)


@given(graphs)
def test_requirements_first_else_as_declared(edges: dict[str, list[str]]) -> None:
    graph = commands(edges)
    cycles = graph.cycles()
    ordered = order(graph)
    if not cycles:
        assert sorted(ordered) == sorted(edges)
        place = {name: i for i, name in enumerate(ordered)}
        assert all(place[other] < place[name] for name, needed in edges.items() for other in needed)
        for i, name in enumerate(ordered[1:], start=1):
            earlier = [other for other in ordered[i:] if list(edges).index(other) < list(edges).index(name)]
            assert all(set(edges[other]) - set(ordered[:i]) for other in earlier), "nothing waits without a reason"
    else:
        assert len(ordered) < len(edges)
    seen: set[str] = set()
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert seen.isdisjoint(cycle)
        seen |= set(cycle)
        for name, needed in pairwise(cycle):
            assert needed.removeprefix("command:") in edges[name.removeprefix("command:")]


@given(graphs)
def test_what_is_needed_is_all_that_can_be_reached(edges: dict[str, list[str]]) -> None:
    entries = list(commands(edges).entries.values())
    for start in edges:
        reached, stack = set(), [start]
        while stack:
            if (name := stack.pop()) not in reached:
                reached.add(name)
                stack += edges[name]
        assert with_requirements(entries, [f"command:{start}"]) == {f"command:{name}" for name in reached}


def test_what_would_close_a_circle_is_not_implied() -> None:
    graph = Graph([
        entry(Apt(name="tool"), ["file:/etc/early"]),
        entry(File(name="/etc/early", content="")),
        entry(File(name="/etc/late", content="")),
        entry(Command(name="after", run=["true"], refresh_on=["service:x"]), ["service:x"]),
        entry(Service(name="x")),
    ])  # fmt: skip
    assert graph.cycles() == []
    graph.imply()
    implied = {id: each.implied for id, each in graph.entries.items()}
    assert implied["file:/etc/early"] == ()
    assert implied["file:/etc/late"] == ("apt:tool",)
    assert set(implied["service:x"]) == {"apt:tool", "file:/etc/early", "file:/etc/late"}
    assert [each.id for each in graph.in_order()] == [
        "file:/etc/early", "apt:tool", "file:/etc/late", "service:x", "command:after"
    ]  # fmt: skip


def test_places_come_first_and_go_last() -> None:
    graph = Graph([
        entry(File(name="/srv/a/b/c", content="")),
        entry(Directory(name="/srv/a", ensure="absent"), state="t"),
        entry(File(name="/srv/a/gone", ensure="absent"), state="t"),
        entry(Directory(name="/", mode="0755"), state="u"),
        entry(Directory(name="/srv/a/b"), state="u"),
    ])  # fmt: skip
    graph.imply()
    assert set(graph.entries["file:/srv/a/b/c"].implied) == {"directory:/srv/a/b", "directory:/srv/a", "directory:/"}
    assert set(graph.entries["directory:/srv/a"].implied) == {"file:/srv/a/gone", "directory:/"}
    assert graph.entries["directory:/"].implied == ()


def test_a_large_site_is_ordered_in_no_time() -> None:
    entries = [entry(Apt(name=f"package{i}")) for i in range(60)]
    entries += [entry(Directory(name=f"/srv/{i % 40}/{i}")) for i in range(400)]
    entries += [entry(File(name=f"/srv/{i % 40}/{i}/f", content="")) for i in range(1000)]
    entries += [entry(Service(name=f"unit{i}")) for i in range(60)]
    started = time.process_time()
    graph = Graph(entries)
    graph.cycles()
    graph.imply()
    assert len(graph.in_order()) == len(entries)
    assert time.process_time() - started < 5
