"""`agent init`: a first site for a domain, valid as it is, and never over one that is there."""

from __future__ import annotations

import os
import pty
import subprocess
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from outside import command, environ
from sitefolder import ROOT, SiteFolder

SHIPPED = tomllib.loads((ROOT / "site.toml").read_text())


def test_the_shipped_site_for_this_domain(site: SiteFolder) -> None:
    result = site.run("init", "--domain", "Mail.Example.NET.")
    assert result.code == 0, result.text
    path = site.path / "site.toml"
    assert f"wrote {path} for mail.example.net" in result.out
    assert "agent apply --check" in result.out
    written = tomllib.loads(path.read_text())
    assert written["values"]["domain"] == "mail.example.net"
    assert written["site"] == SHIPPED["site"]
    assert SHIPPED["values"]["domain"] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(site.path) == ["site.toml"]
    site.valid()


def test_never_over_a_site(site: SiteFolder) -> None:
    path = site.write("site.toml", "# mine\n")
    result = site.run("init", "--domain", "example.net")
    assert (result.code, result.out) == (3, "")
    assert f"there is a site already: {path}" in result.err
    assert path.read_text() == "# mine\n"
    path.unlink()
    path.symlink_to("nowhere")
    assert site.run("init", "--domain", "example.net").code == 3
    assert os.listdir(site.path) == ["site.toml"]


@pytest.mark.parametrize("domain", ["", "example", "exa mple.net", 'a"b.net', "ann@example.net", "-.net", "x." * 130])
def test_what_is_no_domain(site: SiteFolder, domain: str) -> None:
    result = site.run("init", "--domain", domain)
    assert (result.code, result.out) == (3, "")
    assert "nothing was written" in result.err
    assert os.listdir(site.path) == []


def test_a_domain_with_other_letters(site: SiteFolder) -> None:
    assert 'in its "xn--" form' in site.run("init", "--domain", "bücher.example").err
    assert site.run("init", "--domain", "xn--bcher-kva.example").code == 0
    assert site.run("validate").code == 0


def test_a_folder_that_is_not_there_yet_and_json(site: SiteFolder) -> None:
    result = site.run("init", "--domain", "example.net", "--json", site="deep/below/site.toml")
    path = site.path / "deep/below/site.toml"
    assert result.json == {"version": 1, "mode": "init", "site": str(path), "domain": "example.net"}
    assert path.is_file()


def test_asks_on_a_terminal_only(site: SiteFolder) -> None:
    result = site.run("init", stdin="example.net\n")
    assert result.code == 3
    assert "--domain" in result.err
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(site, "init"), env=environ(site), cwd=site.path, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, b"example.net\n")
    said = b""
    with suppress(OSError):  # the other end is closed, and all of it was read
        while data := os.read(ours, 65536):
            said += data
    os.close(ours)
    assert process.wait(60) == 0
    assert b"The domain that this host serves" in said
    assert tomllib.loads((site.path / "site.toml").read_text())["values"]["domain"] == "example.net"


def test_a_place_that_cannot_be_written(site: SiteFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = site.run("init", "--domain", "example.net", site=str(tmp_path / "file/site.toml"))
    assert result.code == 1
    assert "cannot be written: " in result.err
