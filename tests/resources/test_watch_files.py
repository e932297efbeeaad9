"""The resident agent with real files and real inotify: everything that can come of a path, and nothing too much."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from residence import Residence, counting

from agent.engine import Engine
from agent.errors import ResourceError
from agent.host.inotify import IN_Q_OVERFLOW, FolderEvent, Inotify
from agent.host.lock import exclusive
from agent.resources.directory import Directory
from agent.resources.file import File
from agent.watch import agent as agent_module
from agent.watch.calm import Calm

SITE = """
[directory."HOST/d"]
[directory."HOST/d/e"]
[file."HOST/d/e/a"]
content = "a\\n"
mode = "0640"
[file."HOST/d/b"]
content = "b\\n"
[link."HOST/l"]
target = "d"
[block."HOST/blocks#one"]
content = "one\\n"
[directory."HOST/pure"]
purge = true
[file."HOST/pure/declared"]
content = "x"
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Residence]]:
    made: list[Residence] = []

    def begin(site: str, calm: Calm | None = None) -> Residence:
        (tmp_path / "site.toml").write_text(site.replace("HOST", str(tmp_path / "host")))
        made.append(Residence(tmp_path, calm=calm))
        made[-1].settle()
        return made[-1]

    yield begin
    for each in made:
        each.agent.close()


def rewrite(place: Residence, site: str) -> None:
    """Save another site, as an editor does."""
    new = place.folder / "new"
    new.write_text(site.replace("HOST", str(place.host)))
    new.rename(place.folder / "site.toml")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("other")
    other.rename(path)


def move_and_bring_back(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.with_name("away").rename(path)


def swap_for_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def move_parent(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


DAMAGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "appended to": (lambda host: append(host / "d/e/a", "x"), {"file:d/e/a"}),
    "truncated without being opened": (lambda host: truncate(host / "d/e/a"), {"file:d/e/a"}),
    "deleted": (lambda host: (host / "d/e/a").unlink(), {"file:d/e/a"}),
    "replaced": (lambda host: replace(host / "d/e/a"), {"file:d/e/a"}),
    "mode": (lambda host: (host / "d/e/a").chmod(0o777), {"file:d/e/a"}),
    "a link in its place": (lambda host: swap_for_link(host / "d/e/a"), {"file:d/e/a"}),
    "its folder moved": (lambda host: move_parent(host / "d/e/a"), {"directory:d/e", "file:d/e/a"}),
    "the folder above moved": (
        lambda host: move_parent(host / "d/b"),
        {"directory:d", "directory:d/e", "file:d/e/a", "file:d/b"},
    ),
    "a tree deleted": (
        lambda host: shutil.rmtree(host / "d"), {"directory:d", "directory:d/e", "file:d/e/a", "file:d/b"},
    ),
    "link": (lambda host: (host / "l").unlink(), {"link:l"}),
    "block": (lambda host: (host / "blocks").write_text("mine\n"), {"block:blocks#one"}),
    "undeclared": (lambda host: (host / "pure/extra").write_text(""), {"directory:pure"}),
    "nothing at all": (lambda host: move_and_bring_back(host / "d"), set()),
}  # fmt: skip


def sound(host: Path) -> bool:
    try:
        return (
            (host / "d/e/a").read_text() == "a\n"
            and (host / "d/e/a").stat().st_mode & 0o777 == 0o640
            and not (host / "d/e/a").is_symlink()
            and (host / "d/b").read_text() == "b\n"
            and (host / "l").readlink() == Path("d")
            and "one" in (host / "blocks").read_text()
            and os.listdir(host / "pure") == ["declared"]
        )
    except OSError:
        return False


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_put_right_and_only_it_every_time(start: Callable[..., Residence], damage: str) -> None:
    place = start(SITE)
    do, expected = DAMAGES[damage]
    for _ in range(2):  # a path that was replaced is still watched
        known = len(place.changes())
        do(place.host)
        place.until(lambda: sound(place.host))
        place.settle()
        for left in ("moved", "d.moved"):
            shutil.rmtree(place.host / left, ignore_errors=True)
            shutil.rmtree(place.host / "d" / left, ignore_errors=True)
        place.settle()
        new = place.changes()[known:]
        assert {id.replace(str(place.host) + "/", "") for id, _, _ in new} == expected
        assert {(cause, outcome) for _, cause, outcome in new} <= {("drift", "done")}
    assert not (place.host / "l" / "never").exists()


def test_a_single_drift_among_5000_reads_one_resource_and_starts_nothing(start: Callable[..., Residence]) -> None:
    files = "".join(f'[file."HOST/d{n // 100}/f{n}"]\ncontent = "{n}\\n"\n' for n in range(5000))
    place = start("".join(f'[directory."HOST/d{n}"]\n' for n in range(50)) + files)
    rounds, runs = place.rounds, place.runs()
    path = place.host / "d7/f777"
    with counting(File, Directory) as counted:
        path.write_text("damaged")
        place.until(lambda: place.rounds > rounds)
        place.settle()
    assert path.read_text() == "777\n"
    assert counted.read == [f"file:{path}"] * 2, "once to see it, once to see that it is right"
    assert counted.started == []
    foreign = [name for name in counted.opened if name.startswith(str(place.host)) and name != str(path)]
    assert foreign == []
    assert place.rounds == rounds + 1, "its own writes woke it"
    assert place.runs() == runs + 1


def test_an_event_that_finds_nothing_is_no_run(start: Callable[..., Residence]) -> None:
    place = start(SITE)
    runs, rounds = place.runs(), place.rounds
    os.utime(place.host / "d/b")
    place.until(lambda: place.rounds > rounds)
    assert place.runs() == runs


def test_what_happens_between_arming_and_the_first_look_is_seen(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(f'[file."{tmp_path}/host/a"]\ncontent = "a"\n')
    real = agent_module.Agent._look_at_all

    def damaged_after(self: agent_module.Agent) -> None:
        real(self)
        (tmp_path / "host/a").write_text("damaged before the first turn")

    with mock.patch.object(agent_module.Agent, "_look_at_all", damaged_after):
        place = Residence(tmp_path)
    place.until(lambda: (tmp_path / "host/a").read_text() == "a")
    place.agent.close()


def test_an_overflow_leads_to_a_look_at_everything(start: Callable[..., Residence]) -> None:
    place = start(SITE)
    real = Inotify.read

    def overflown(self: Inotify) -> Iterator[FolderEvent]:
        list(real(self))
        yield FolderEvent(-1, IN_Q_OVERFLOW, "")

    (place.host / "d/b").unlink()
    (place.host / "l").unlink()
    with mock.patch.object(Inotify, "read", overflown):
        place.turn()
    place.until(lambda: sound(place.host))
    assert any("everything is looked at" in text for text in place.said)


def test_without_inotify_it_is_polled_and_told_and_comes_back(
    start: Callable[..., Residence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "BLIND", 0.1)
    refuse = ResourceError("no more folders can be watched: No space left on device")
    with mock.patch.object(Inotify, "add", side_effect=refuse):
        place = start(SITE.replace("[link", "[link"))
        (place.host / "d/b").unlink()
        place.until(lambda: sound(place.host))
        assert any("no events" in text for text in place.said)
        assert "files: no events" in str(place.status()["notes"])
    place.until(lambda: any("events again" in text for text in place.said))
    (place.host / "d/b").unlink()
    place.until(lambda: sound(place.host))


def test_only_reported(start: Callable[..., Residence]) -> None:
    place = start('[file."HOST/a"]\ncontent = "a"\ndrift = "report"\n')
    (place.host / "a").write_text("mine")
    place.until(lambda: bool(place.agent.state.summary.get("would-change")))
    place.settle()
    assert (place.host / "a").read_text() == "mine"
    assert sum("only reported" in text for text in place.said) == 1
    (place.host / "a").write_text("a")
    place.until(lambda: not place.agent.state.summary.get("would-change"))


def test_a_contest_is_backed_off_and_told(start: Callable[..., Residence]) -> None:
    place = start('[file."HOST/a"]\ncontent = "a"\n', Calm(free=3))
    path = place.host / "a"
    for _ in range(4):
        path.write_text("other")
        place.until(lambda: path.read_text() == "a")
        place.settle()
    path.write_text("other")
    for _ in range(5):
        place.turn()
    assert path.read_text() == "other", "it is backed off"
    assert any("contested" in text for text in place.said)
    found = place.status()
    assert [(row["outcome"], row["contested"]) for row in found["resources"]] == [("unknown", True)]
    assert not found["converged"] and found["summary"] == {"unknown": 1}, "nobody looked at what is there now"
    place.until(lambda: path.read_text() == "a")
    place.settle()
    assert place.status()["converged"]


def test_a_user_who_applies_is_waited_for(start: Callable[..., Residence]) -> None:
    place = start('[file."HOST/a"]\ncontent = "a"\n')
    with exclusive(place.places.run / "lock", "agent apply"):
        (place.host / "a").write_text("x")
        for _ in range(10):
            place.turn()
        assert (place.host / "a").read_text() == "x"
        assert place.status()["summary"] == {"unknown": 1}, "nobody looked at what is there now"
    place.until(lambda: (place.host / "a").read_text() == "a")
    assert place.status()["converged"]


def test_what_cannot_be_looked_after_is_not_called_right(start: Callable[..., Residence]) -> None:
    place = start('[file."HOST/a"]\ncontent = "a"\n[file."HOST/b"]\ncontent = "b"\n')
    with (
        mock.patch("agent.watch.rounds.TROUBLE_PAUSE", 0.3),
        mock.patch.object(place.agent._resident, "repair", side_effect=ResourceError("no space left")),
    ):
        (place.host / "a").write_text("x")
        place.until(lambda: place.agent.state.trouble is not None)
        found = place.status()
        assert found["trouble"] == "no space left" and not found["converged"]
        assert found["summary"] == {"unknown": 1, "in-desired-state": 1}
        assert "it is looked at in" in found["resources"][0]["note"]
    place.until(lambda: (place.host / "a").read_text() == "a")
    assert place.status()["converged"]


def test_what_failed_is_tried_again(start: Callable[..., Residence]) -> None:
    place = start('[file."HOST/folder/a"]\ncontent = "a"\n')
    assert place.agent.state.summary["failed"] == 1
    (place.host / "folder").mkdir()
    place.until(lambda: (place.host / "folder/a").exists())
    assert place.agent.state.summary == {"in-desired-state": 1}


def test_what_cannot_be_read_is_told_once(start: Callable[..., Residence]) -> None:
    place = start(SITE)
    with mock.patch.object(File, "read", side_effect=ResourceError("nobody knows")):
        (place.host / "d/b").touch()
        place.until(lambda: any(text.startswith("failed file:") for text in place.said))
        rounds = place.rounds
        place.until(lambda: place.rounds >= rounds + 2)
    assert sum(text.startswith("failed file:") for text in place.said) == 1


def test_the_same_failure_again_and_again_is_one_run(start: Callable[..., Residence]) -> None:
    place = start('[file."HOST/a"]\ncontent = "a"\nvalidate = ["grep", "-q", "b", "{file}"]\n')
    assert place.agent.state.summary["failed"] == 1
    rounds = place.rounds
    place.until(lambda: place.rounds >= rounds + 2)
    assert place.runs() == 1


def test_what_needs_something_that_failed_waits_for_it(start: Callable[..., Residence]) -> None:
    site = '[file."HOST/a"]\ncontent = "a"\nvalidate = ["test", "-e", "HOST/go"]\n'
    site += '[file."HOST/b"]\ncontent = "b"\nrequires = ["file:HOST/a"]\n'
    place = start(site + '[file."HOST/c"]\ncontent = "c"\nrequires = ["file:HOST/b"]\n')
    outcomes = {"failed": 1, "blocked": 2}
    assert place.agent.state.summary == outcomes
    rounds = place.rounds
    for name in "bc":
        (place.host / name).write_text("of somebody else")
    place.until(lambda: place.rounds >= rounds + 4)  # those that try again what failed or was blocked, each by itself
    assert place.agent.state.summary == outcomes
    assert (place.host / "b").read_text() == (place.host / "c").read_text() == "of somebody else"
    (place.host / "go").touch()
    place.until(lambda: place.agent.state.summary == {"in-desired-state": 3})
    assert (place.host / "b").read_text() == "b"


def test_a_refresh_that_somebody_left_over_is_made(start: Callable[..., Residence]) -> None:
    listener = '[command.told]\nrun = ["touch", "HOST/told"]\nrefresh_on = ["file:HOST/a"]\n'
    place = start('[file."HOST/a"]\ncontent = "a"\n' + listener)
    (place.host / "told").unlink()
    (place.host / "a").write_text("damaged")
    assert Engine(place._load()[0], place.places).apply([f"file:{place.host}/a"]).exit_status == 0
    assert not (place.host / "told").exists()
    place.until((place.host / "told").exists)


class TestSite:
    """A change of the declarations."""

    def test_only_what_changed_is_applied(self, start: Callable[..., Residence]) -> None:
        place = start(SITE)
        with counting(File, Directory) as counted:
            rewrite(place, SITE.replace('"b\\n"', '"new b\\n"') + '[file."HOST/d/more"]\ncontent = "m"\n')
            place.until(lambda: (place.host / "d/more").exists())
            place.settle()
        assert (place.host / "d/b").read_text() == "new b\n"
        assert set(counted.read) == {
            f"file:{place.host}/d/b",
            f"file:{place.host}/d/more",
        } | {id for id in counted.read if id.startswith("directory:")}
        causes = {id: cause for id, cause, _ in place.changes()}
        assert causes[f"file:{place.host}/d/b"] == "intent"
        (place.host / "d/more").unlink()
        place.until(lambda: (place.host / "d/more").exists())

    def test_an_invalid_edit_changes_nothing_and_the_last_good_site_goes_on(
        self, start: Callable[..., Residence]
    ) -> None:
        place = start(SITE)
        rewrite(place, SITE.replace('"b\\n"', '"new b\\n"') + "[nonsense")
        place.until(lambda: any("the site is wrong" in text for text in place.said))
        assert (place.host / "d/b").read_text() == "b\n"
        assert "the site is wrong" in str(place.status()["notes"])
        (place.host / "d/b").unlink()
        place.until(lambda: sound(place.host))
        rewrite(place, SITE.replace('"b\\n"', '"new b\\n"'))
        place.until(lambda: (place.host / "d/b").read_text() == "new b\n")
        assert place.status()["notes"] == []

    def test_includes_templates_sources_and_secrets_are_watched(
        self, tmp_path: Path, start: Callable[..., Residence]
    ) -> None:
        (tmp_path / "more.d").mkdir()
        (tmp_path / "t").write_text("v = {{ v }}\n")
        (tmp_path / "s").write_text("source 1")
        (tmp_path / "key").write_text("secret one")
        place = start(
            '[site]\ninclude = ["more.d/*.toml"]\n[values]\nv = 1\n[parameters.v]\ntype = "int"\ndoc = "v"\n'
            '[secrets.key]\nfile = "key"\n[file."HOST/t"]\ntemplate = "t"\n[file."HOST/s"]\nsource = "s"\n'
            '[file."HOST/k"]\ncontent = "{{ secrets.key }}"\n'
        )
        (tmp_path / "t").write_text("w = {{ v }}\n")
        place.until(lambda: (place.host / "t").read_text() == "w = 1\n")
        (tmp_path / "s").write_text("source 2")
        place.until(lambda: (place.host / "s").read_text() == "source 2")
        (tmp_path / "key").write_text("secret two")
        place.until(lambda: (place.host / "k").read_text() == "secret two")
        (tmp_path / "more.d/x.toml").write_text(f'[file."{place.host}/included"]\ncontent = "i"\n')
        place.until(lambda: (place.host / "included").exists())
        assert not any("secret" in text for text in place.said)

    def test_where_links_lead_is_watched_too(self, tmp_path: Path, start: Callable[..., Residence]) -> None:
        (tmp_path / "kept/more.d").mkdir(parents=True)
        (tmp_path / "kept/key").write_text("secret one")
        (tmp_path / "kept/site.toml").touch()
        for name in ("site.toml", "more.d", "key"):
            (tmp_path / name).symlink_to(tmp_path / "kept" / name)
        site = '[site]\ninclude = ["more.d/*.toml"]\n[secrets.key]\nfile = "key"\n'
        place = start(site + '[file."HOST/k"]\ncontent = "{{ secrets.key }}"\n')
        (tmp_path / "kept/key").write_text("secret two")
        place.until(lambda: (place.host / "k").read_text() == "secret two")
        (tmp_path / "kept/more.d/x.toml").write_text(f'[file."{place.host}/included"]\ncontent = "i"\n')
        place.until(lambda: (place.host / "included").exists())
        with (tmp_path / "kept/site.toml").open("a") as file:
            file.write(f'[file."{place.host}/b"]\ncontent = "b"\n')
        place.until(lambda: (place.host / "b").exists())

    def test_a_link_in_place_of_the_site_file_is_followed(
        self, tmp_path: Path, start: Callable[..., Residence]
    ) -> None:
        site, kept = tmp_path / "site.toml", tmp_path / "kept.toml"
        place = start('[file."HOST/a"]\ncontent = "a"\n')
        site.rename(kept)
        site.symlink_to(kept)
        place.settle()
        kept.write_text(kept.read_text() + f'[file."{place.host}/b"]\ncontent = "b"\n')
        place.until(lambda: (place.host / "b").exists())

    def test_what_is_no_longer_declared_is_undone_where_that_was_declared(
        self, start: Callable[..., Residence]
    ) -> None:
        place = start('[file."HOST/a"]\ncontent = "a"\non_removal = "undo"\n[file."HOST/b"]\ncontent = "b"\n')
        rewrite(place, "")
        place.until(lambda: not (place.host / "a").exists())
        assert (place.host / "b").exists()
        assert any("no longer declared" in text for text in place.said)
