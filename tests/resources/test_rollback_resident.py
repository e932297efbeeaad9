"""What is rolled back stays so under the resident agent, until its declaration asks for something else."""

from __future__ import annotations

from pathlib import Path

from residence import Residence

from agent.engine.rollback import Rollback

DECLARED = '[file."HOST/a"]\ncontent = "%s"\n[file."HOST/b"]\ncontent = "b"\n'


def declare(folder: Path, content: str) -> None:
    (folder / "site.toml").write_text((DECLARED % content).replace("HOST", str(folder / "host")))


def test_held_until_the_declaration_changes(tmp_path: Path) -> None:
    declare(tmp_path, "one")
    place = Residence(tmp_path)
    path, other = place.host / "a", place.host / "b"
    try:
        declare(tmp_path, "two")
        place.until(lambda: path.read_text() == "two")
        place.settle()
        run = place.agent.state.run
        report = Rollback(place._load()[0], place.places, run).roll_back()
        assert report.exit_status == 0
        place.settle()
        assert path.read_text() == "one"
        other.write_text("damaged")
        place.until(lambda: other.read_text() == "b")
        place.agent.reread()
        place.settle()
        assert path.read_text() == "one"
        assert any("rolled back, and left so" in text for text in place.said)
        declare(tmp_path, "three")
        place.until(lambda: path.read_text() == "three")
        path.write_text("damaged")
        place.until(lambda: path.read_text() == "three")
    finally:
        place.agent.close()


def test_a_removal_that_went_back_stays(tmp_path: Path) -> None:
    declare(tmp_path, "one")
    place = Residence(tmp_path)
    try:
        assert Rollback(place._load()[0], place.places, place.agent.state.run).roll_back().exit_status == 0
        place.settle()
        assert list(place.host.iterdir()) == []
        # An apply that is asked for does what the site says, and from then on the resident agent as well.
        from agent.engine import Engine

        assert Engine(place._load()[0], place.places).apply().exit_status == 0
        (place.host / "a").unlink()
        place.until(lambda: (place.host / "a").exists())
    finally:
        place.agent.close()
