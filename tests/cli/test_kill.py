"""`kill -9` at any instant of an apply: nothing torn, nothing lost, nothing left behind."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import command, environ, kill, runs, start, stray
from sitefolder import SiteFolder

ROUNDS = int(os.environ.get("STATE_AGENT_KILLS", "100"))
FILES = 60
SECRET = "[secrets.key]\ngenerate = 16\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteFolder]:
    """A site in memory, where there is such a place: what a kill leaves is the same, and fsync costs nothing."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path))
    made = SiteFolder(folder / "site", folder / "host", folder / "state")
    made.path.mkdir()
    made.host.mkdir()
    yield made
    shutil.rmtree(folder)


def written(number: int, version: int) -> str:
    """The content of a file: long enough to be torn if it could be."""
    return f"file {number} of version {version}\n" * (200 if number % 10 == 0 else 2)


def declare(site: SiteFolder, version: int) -> None:
    """The site of one version: all contents differ from those of the one before."""
    text = [SECRET, '[directory."HOST/d"]\n[directory."HOST/d/e"]\nmode = "%s"\n' % ("0700" if version % 2 else "0755")]
    for number in range(FILES):
        content = written(number, version).replace("\n", "\\n")
        text.append(f'[file."HOST/d/f{number}"]\ncontent = "{content}"\nmode = "{"0600" if version % 2 else "0644"}"\n')
    text += [f'[link."HOST/d/l{number}"]\ntarget = "f{(number + version) % FILES}"\n' for number in range(4)]
    text += [f'[block."HOST/d/shared#b{number}"]\ncontent = "{number} {version}\\n"\n' for number in range(4)]
    text.append(f'[file."HOST/d/secret"]\ncontent = "{version} {{{{ secrets.key }}}}\\n"\n')
    text.append(f'[file."HOST/d/e/extra{version % 3}"]\ncontent = "{version}"\non_removal = "undo"\n')
    text.append(
        f'[command.listens]\nrun = ["sh", "-c", "echo {version} >> HOST/log"]\n'
        'refresh_on = ["file:HOST/d/f*", "file:HOST/d/secret"]\n'
    )
    site.write("site.toml", "".join(text))


def whole(site: SiteFolder, versions: set[int]) -> Iterator[str]:
    """What is torn: neither of one version nor of the other."""
    folder = site.host / "d"
    for number in range(FILES):
        path = folder / f"f{number}"
        if path.exists() and path.read_text() not in {written(number, version) for version in versions}:
            yield path.name
    for number in range(4):
        path = folder / f"l{number}"
        if path.is_symlink() and os.readlink(path) not in {f"f{(number + version) % FILES}" for version in versions}:
            yield path.name
    if (folder / "shared").exists():
        text = (folder / "shared").read_text()
        if text.count("BEGIN") != text.count("END"):
            yield "shared"


def killed(site: SiteFolder, delay: float) -> bool:
    """Whether an apply was killed after so long, not come to its end before."""
    process = start(site, "apply", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    ended = process.poll() is not None
    kill(process)
    return not ended


def killed_at(site: SiteFolder, path: Path, text: str) -> bool:
    """Whether an apply was killed as soon as it had written this text, not come to its end before."""
    process = start(site, "apply", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and path.read_text() != text:
        pass
    ended = process.poll() is not None
    kill(process)
    return not ended


def test_nothing_is_torn_or_lost(site: SiteFolder) -> None:
    declare(site, 0)
    assert site.run("apply").code == 0
    declare(site, 1)
    started = time.monotonic()
    assert site.run("apply").code == 0
    lasts = time.monotonic() - started
    instants = random.Random(4711)
    hits = cut_off = version = 0
    seen = {1}
    for turn in range(ROUNDS):
        version = turn + 2
        declare(site, version)
        seen.add(version)
        if turn % 2:  # in the midst of it, however fast the machine is
            number = instants.randrange(FILES)
            hits += killed_at(site, site.host / f"d/f{number}", written(number, version))
        else:  # anywhere
            hits += killed(site, lasts * (0.2 + 0.9 * (turn + instants.random()) / ROUNDS))
        assert list(whole(site, seen)) == []
        if turn % 4 != 3 and turn + 1 < ROUNDS:  # now and then several killed runs come one after the other
            continue
        log = (site.host / "log").read_text()
        cut_off += runs(site)[0]["outcome"] == "cut off"
        result = site.run("apply", "--json")
        assert result.code == 0, result.text
        assert list(whole(site, {version})) == []
        assert sorted(path.name for path in (site.host / "d/e").iterdir()) == [f"extra{version % 3}"]
        listed = (site.host / "log").read_text()
        assert listed.splitlines()[-1] == str(version), "the last change was never followed by its refresh"
        assert listed.startswith(log)
        assert stray(site.host, site.path) == []
        assert not (site.state / "run/stage").exists()
        seen = {version}
    assert site.run("apply", "--check").code == 0
    assert hits >= ROUNDS // 2, f"only {hits} of {ROUNDS} runs were killed"
    assert ROUNDS < 100 or cut_off > 3


@pytest.mark.parametrize("instant", ["validating", "running"])
def test_killed_in_the_middle_of_a_program(site: SiteFolder, instant: str) -> None:
    slow = '["sh", "-c", "touch HOST/began; sleep 20"]'
    site.write(
        "site.toml",
        f'[file."HOST/a"]\ncontent = "1"\nvalidate = {slow}\n'
        if instant == "validating"
        else f'[command.slow]\nrun = {slow}\ncreates = "HOST/never"\n',
    )
    process = start(site, "apply", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (site.host / "began").exists():
        time.sleep(0.01)
    kill(process)
    assert not (site.host / "a").exists()
    site.write("site.toml", '[file."HOST/a"]\ncontent = "2"\n')
    assert site.run("apply").code == 0
    assert (site.host / "a").read_text() == "2"
    assert stray(site.host) == []
    assert not (site.state / "run/stage").exists()
    assert [change["outcome"] for change in runs(site, "1")[0]["changes"]] == ["cut off"]


CUT_OFF = """
import os
from agent.cli.main import main
from agent.host.files import Files

replace = Files.replace

def replaced(self, path, *words, **more):
    replace(self, path, *words, **more)
    if path.endswith("/first"):
        os.kill(os.getpid(), 9)

Files.replace = replaced
main()
"""


@pytest.mark.parametrize("known", [False, True], ids=["new", "set before"])
def test_what_a_killed_run_made_is_undone_with_its_declaration(site: SiteFolder, known: bool) -> None:
    if known:
        site.write("site.toml", '[file."HOST/first"]\ncontent = "0"\n')
        assert site.run("apply").code == 0
    site.write("site.toml", '[file."HOST/first"]\ncontent = "1"\non_removal = "undo"\n')
    script = [sys.executable, "-c", CUT_OFF, *command(site, "apply")[3:]]
    assert subprocess.run(script, env=environ(site), cwd=site.path, check=False).returncode == -9
    assert (site.host / "first").read_text() == "1"
    site.write("site.toml", '[file."HOST/second"]\ncontent = "2"\n')
    result = site.run("apply", "--json")
    assert result.code == 0, result.text
    assert [path.name for path in site.host.iterdir()] == ["second"]
    assert site.run("apply", "--check").code == 0


def test_nothing_is_said_of_what_was_never_made(site: SiteFolder) -> None:
    site.write(
        "site.toml", '[file."HOST/nowhere/a"]\ncontent = "1"\nvalidate = ["false"]\n[directory."HOST/nowhere"]\n'
    )
    assert site.run("apply").code == 1
    site.write("site.toml", '[directory."HOST/nowhere"]\n')
    assert "nowhere/a" not in site.run("apply").text
