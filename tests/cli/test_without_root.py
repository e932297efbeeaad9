"""Without root: what cannot be read is said, what is one's own works."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import environ
from sitefolder import ROOT, Result, SiteFolder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")


@pytest.fixture
def mine() -> Iterator[SiteFolder]:
    """A site whose folders belong to nobody, where nobody can come (pytest's folders are root's)."""
    folder = Path(tempfile.mkdtemp())
    made = SiteFolder(folder / "site", folder / "host", folder / "state")
    for path in (made.path, made.host):
        path.mkdir()
    for path in (folder, made.path, made.host):
        os.chown(path, *ids())
    shutil.copytree(ROOT / "agent", folder / "program/agent", ignore=shutil.ignore_patterns("__pycache__"))
    folder.chmod(0o755)
    made.environ["PYTHONPATH"] = str(folder / "program")
    yield made
    shutil.rmtree(folder)


def ids() -> tuple[int, int]:
    """User and group of nobody."""
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


# The Python of the tests may be root's alone: all modules are loaded first, then root is given up.
AS_NOBODY = """
import contextlib, importlib, io, os, pkgutil, sys
import agent, asyncio, sh
for module in pkgutil.walk_packages(agent.__path__, "agent."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from agent.cli.main import _run, main
sh.Command("/bin/true")()
site = sys.argv[-1]
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    for warm in (["validate"], ["apply", "--check"], ["status"], ["log"]):
        _run([*warm, "--site", site, "--state-dir", "/proc/nowhere"])
os.setgroups([])
os.setgid({gid})
os.setuid({uid})
main()
"""


def run(site: SiteFolder, *words: str) -> Result:
    """Run the command as nobody."""
    uid, gid = ids()
    script = AS_NOBODY.replace("{uid}", str(uid)).replace("{gid}", str(gid))
    ended = subprocess.run(
        [sys.executable, "-B", "-c", script, *words, "--site", str(site.path / "site.toml")],
        env=environ(site), cwd=site.path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr, ended.stderr
    assert "internal error" not in ended.stderr, ended.stderr
    return Result(ended.returncode, ended.stdout, ended.stderr)


def test_check_says_what_it_cannot_read(mine: SiteFolder) -> None:
    hidden = mine.host / "hidden"
    hidden.write_text("root's\n")
    hidden.chmod(0o600)
    (mine.host / "closed").mkdir(mode=0o700)
    mine.write(
        "site.toml",
        '[file."HOST/hidden"]\ncontent = ""\n[file."HOST/closed/x"]\ncontent = ""\n[file."HOST/open"]\ncontent = ""\n'
        '[secrets.key]\nfile = "HOST/hidden"\n[file."HOST/keyed"]\ncontent = "{{ secrets.key }}"\n',
    )
    checked = run(mine, "apply", "--check", "--json")
    assert checked.code == 2
    for name in ("hidden", "closed/x", "keyed"):
        row = checked.resource(f"file:{mine.host}/{name}")
        assert row["outcome"] == "unknown"
        assert "root" in row["error"]
    assert checked.resource(f"file:{mine.host}/open")["outcome"] == "would-add"
    text = run(mine, "apply", "--check")
    assert f"? file:{mine.host}/hidden" in text.out
    assert "not readable" in text.out
    assert "3 not readable without root" in text.out
    applied = run(mine, "apply")
    assert applied.code == 1
    assert (mine.host / "open").exists()
    assert hidden.read_text() == "root's\n"


def test_ones_own_files_can_be_applied(mine: SiteFolder) -> None:
    mine.write(
        "site.toml",
        '[directory."HOST/d"]\n[file."HOST/d/a"]\ncontent = "a\\n"\n[link."HOST/d/l"]\ntarget = "a"\n'
        '[command.once]\nrun = ["touch", "HOST/d/b"]\ncreates = "HOST/d/b"\n',
    )
    assert run(mine, "apply").code == 0
    assert run(mine, "apply", "--check").code == 0
    (mine.host / "d/a").write_text("drift\n")
    assert run(mine, "apply", "--check", "--json").resource(f"file:{mine.host}/d/a")["cause"] == "drift"
    assert run(mine, "apply").code == 0
    assert len(run(mine, "log", "--json").json["runs"]) == 2
    assert run(mine, "status").code == 0


def test_a_state_folder_of_root(mine: SiteFolder) -> None:
    mine.write("site.toml", '[file."HOST/a"]\ncontent = "a\\n"\n')
    mine.state.mkdir(mode=0o700)
    assert run(mine, "apply", "--check").code == 2
    for words in (["apply"], ["log"]):
        result = run(mine, *words)
        assert result.code == 1
        assert "sudo" in result.err
    assert not (mine.host / "a").exists()


def test_a_journal_of_root_that_can_be_read(mine: SiteFolder) -> None:
    mine.write("site.toml", '[file."HOST/a"]\ncontent = "a\\n"\n')
    assert mine.run("apply").code == 0
    for path in [mine.state, *mine.state.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert run(mine, "apply", "--check").code == 0
    assert run(mine, "log").code == 0
    (mine.host / "a").write_text("drift\n")
    assert run(mine, "apply", "--check", "--json").resource(f"file:{mine.host}/a")["cause"] == "drift"
