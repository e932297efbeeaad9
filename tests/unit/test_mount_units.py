"""The name that systemd gives the unit of a mount point."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from agent.host.gocryptfs import unit_of

PATHS = ("/", "/srv/mail", "//srv//mail/", "/srv/my-mail", "/.hidden/.x", "/srv/ä b\\c", "/a:b_c.d", "/srv/x\ny")


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="systemd is not installed")
@pytest.mark.parametrize("path", PATHS)
def test_as_systemd_escapes_it(path: str) -> None:
    done = subprocess.run(
        ["systemd-escape", "--path", "--suffix=mount", path], capture_output=True, text=True, check=True
    )
    assert unit_of(path) == done.stdout.removesuffix("\n")
