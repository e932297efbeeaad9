"""Keys that gpg makes for tests: good ones, and each way of being none."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """Somebody with a GnuPG home of their own."""

    home: Path

    def gpg(self, *words: str, stdin: bytes = b"") -> bytes:
        """Run gpg, and give what it prints."""
        base = ["gpg", "--homedir", self.home, "--batch", "--no-tty", "--quiet", "--passphrase", "", "--yes"]
        return subprocess.run([*base, *words], input=stdin, capture_output=True, check=True).stdout

    def make(self, address: str, *, usage: str = "encr", expires: str = "2y", options: tuple[str, ...] = ()) -> str:
        """Make a key that certifies, with a subkey for `usage` (none where empty); gives its fingerprint."""
        user = f"Some One <{address}>"
        self.gpg(*options, "--quick-gen-key", user, "ed25519", "cert,sign", expires)
        listing = self.gpg("--with-colons", "--list-keys", f"={user}").decode()
        fingerprint = [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr")][-1]
        if usage:
            self.gpg(*options, "--quick-add-key", fingerprint, "cv25519", usage, expires)
        return fingerprint

    def revoke(self, fingerprint: str) -> None:
        """Revoke a key, with the certificate that gpg made along with it."""
        made = (self.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.gpg("--import", stdin=made.replace(":-----BEGIN", "-----BEGIN").encode())

    def public(self, *names: str, armor: bool = True) -> bytes:
        """Keys as others get them."""
        return self.gpg(*["--armor"] * armor, "--export", *names)

    def private(self, name: str) -> bytes:
        """A private key."""
        return self.gpg("--armor", "--export-secret-keys", name)

    def close(self) -> None:
        """End the daemons that gpg started."""
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=True)


def owner(home: Path) -> Owner:
    """Somebody with an empty home, whose path has to be short: gpg-agent's socket lies in it."""
    home.mkdir(mode=0o700)
    return Owner(home)
