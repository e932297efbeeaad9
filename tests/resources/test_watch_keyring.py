"""The resident agent with a GnuPG home: gpg writes even where it reads, and must not keep the agent busy."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from residence import Residence

SITE = '[keyring."HOST/ring"]\nexclusive = true\nkeys = [{ file = "HOST/ann.asc", trust = "full" }]\n'


def gpg(home: Path, *words: str) -> str:
    base = ["gpg", "--homedir", str(home), "--batch", "--yes", "--quiet", "--passphrase", ""]
    return subprocess.run([*base, *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Residence]:
    """Somebody's key that expires in twenty days, in a ring."""
    maker = tmp_path / "maker"
    maker.mkdir(mode=0o700)
    gpg(maker, "--quick-generate-key", "Ann <ann@example.org>", "ed25519", "cert,sign", "20d")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/ann.asc").write_text(gpg(maker, "--armor", "--export"))
    subprocess.run(["gpgconf", "--homedir", str(maker), "--kill", "all"], check=True)
    shutil.rmtree(maker)
    (tmp_path / "site.toml").write_text(SITE.replace("HOST", str(tmp_path / "host")))
    residence = Residence(tmp_path)
    residence.settle()
    yield residence
    residence.agent.close()


def test_a_deleted_key_comes_back_and_reading_wakes_nobody(place: Residence) -> None:
    ring = place.host / "ring"
    gpg(ring, "--list-keys")  # the first one writes the trust database
    place.settle()
    rounds = place.rounds
    gpg(ring, "--list-keys")
    place.settle()
    assert place.rounds == rounds
    gpg(ring, "--delete-keys", "ann@example.org")
    place.until(lambda: "ann@example.org" in gpg(ring, "--list-keys"))
    place.settle()
    assert place.changes()[1:] == [(f"keyring:{ring}", "drift", "done")]
    assert place.rounds <= rounds + 2


def test_a_key_that_soon_expires_is_told_once_and_shown_as_long_as_it_is_so(place: Residence) -> None:
    about = [text for text in place.said if "expires on" in text]
    place.agent.reread()
    place.turn()
    assert [text for text in place.said if "expires on" in text] == about != []
    assert place.status()["notes"] == about
