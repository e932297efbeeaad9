"""Looking at the command from outside: running it in the background and on a terminal, and what it left behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sitefolder import ROOT, SiteFolder


def environ(site: SiteFolder, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that `SiteFolder.run` gives the command."""
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "CREDENTIALS_DIRECTORY")}
    own = {"PYTHONPATH": str(ROOT), "AGENT_STATE_DIR": str(site.state)}
    return {**kept, **own, **site.environ, **(extra or {})}


def command(site: SiteFolder, *words: str) -> list[str]:
    """The command line that `SiteFolder.run` runs."""
    return [sys.executable, "-m", "agent", *words, "--site", str(site.path / "site.toml")]


def start(site: SiteFolder, *words: str, **options: Any) -> subprocess.Popen[str]:
    """Run the command in the background, in a process group of its own."""
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command(site, *words), env=environ(site), cwd=site.path, start_new_session=True, **given)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill it, with all in its process group, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 30) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.01)


def tree(folder: Path, *, atimes: bool = False) -> dict[str, tuple[Any, ...]]:
    """All below a folder: type, mode, owner, times, inode, content. Looking changes no file's access time."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        what: Any = None
        if path.is_symlink():
            what = os.readlink(path)
        elif path.is_file():
            fd = os.open(path, os.O_RDONLY | (os.O_NOATIME if os.geteuid() == 0 else 0))
            with open(fd, "rb") as file:
                what = file.read()
        times = [status.st_mtime_ns, status.st_ctime_ns]
        if atimes and what is not None and not path.is_symlink():  # folders and links: looking touches that
            times.append(status.st_atime_ns)
        found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_ino, *times, what)
    return found


def stray(*folders: Path) -> list[Path]:
    """Temporaries that a run left behind."""
    return [path for folder in folders for path in folder.rglob(".*state-agent*")]


def on_terminal(
    site: SiteFolder, *words: str, extra: Mapping[str, str] | None = None, only_stderr: bool = False
) -> tuple[int, str, str]:
    """Run the command with stdout and stderr on a terminal of their own each; gives status and what came there."""
    out, out_end = pty.openpty()
    err, err_end = pty.openpty()
    plain = subprocess.DEVNULL if only_stderr else out_end
    process = subprocess.Popen(
        command(site, *words), env=environ(site, {"TERM": "xterm", **(extra or {})}), cwd=site.path,
        stdin=subprocess.DEVNULL, stdout=plain, stderr=err_end, start_new_session=True,
    )  # fmt: skip
    os.close(out_end)
    os.close(err_end)
    said = {out: b"", err: b""}
    open_ends = {out, err}
    while open_ends:
        for end in select.select(list(open_ends), [], [], 60)[0]:
            try:
                data = os.read(end, 65536)
            except OSError:
                data = b""
            if not data:
                open_ends.discard(end)
            said[end] += data
    os.close(out)
    os.close(err)
    return process.wait(60), said[out].decode(errors="replace"), said[err].decode(errors="replace")


def runs(site: SiteFolder, *words: str) -> list[dict[str, Any]]:
    """The runs that `agent log --json` lists."""
    result = site.run("log", "--json", *words)
    assert result.code == 0, result.text
    listed: list[dict[str, Any]] = json.loads(result.out)["runs"]
    return listed
