"""What the sealer's tests stand on: keys made by gpg, a server that stores mail, and the sealer itself as a process."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRON = os.environ | {"PYTHONPATH": str(ROOT)}


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


class Owners:
    """The GnuPG home of those who own the keys, and beside it the sealer's, with the public ones only."""

    def __init__(self, folder: Path) -> None:
        self.home, self.public = folder / "owners", folder / "public"
        for home in (self.home, self.public):
            home.mkdir(mode=0o700)

    def gpg(self, *words: str, stdin: bytes = b"", home: Path | None = None) -> bytes:
        """Run gpg; it must end well."""
        quiet = ["--homedir", str(home or self.home), "--batch", "--quiet", "--pinentry-mode", "loopback"]
        done = subprocess.run(
            ["gpg", *quiet, "--passphrase", "", *words], input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make(self, name: str, *, encrypts: bool = True, words: tuple[str, ...] = ()) -> str:
        """A key for NAME@example.net, in both homes; gives its fingerprint."""
        self.gpg(*words, "--quick-generate-key", f"{name} <{name}@example.net>", "ed25519", "cert,sign", "1y")
        lines = self.gpg("--with-colons", "--list-keys", f"<{name}@example.net>").decode().splitlines()
        fingerprint = next(line.split(":")[9] for line in lines if line.startswith("fpr:"))
        if encrypts:
            self.gpg(*words, "--quick-add-key", fingerprint, "cv25519", "encr", "1y")
        self.publish(fingerprint)
        return fingerprint

    def publish(self, fingerprint: str) -> None:
        """Give the sealer what a key is now."""
        self.gpg("--import", stdin=self.gpg("--export", fingerprint), home=self.public)

    def revoke(self, fingerprint: str) -> None:
        """Revoke a key in the sealer's home."""
        file = self.home / "openpgp-revocs.d" / f"{fingerprint}.rev"
        self.gpg("--import", stdin=file.read_bytes().replace(b":-----", b"-----"), home=self.public)

    def end(self) -> None:
        """End gpg's daemons."""
        for home in (self.home, self.public):
            subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)

    def original(self, sealed: bytes) -> bytes:
        """What was sent, out of what was stored, by gpg and the rule of design 021, without the sealer's code."""
        inner = self.gpg("--decrypt", stdin=cipher(sealed))
        found = re.match(rb"Sealed-Original: (\d+) (\d+)\r?\n", inner)
        assert found, inner[:200]
        return inner[int(found[1]) : len(inner) - int(found[2])]


def cipher(sealed: bytes) -> bytes:
    """The OpenPGP message in a sealed mail."""
    return sealed[sealed.index(b"-----BEGIN PGP MESSAGE") : sealed.index(b"-----END PGP MESSAGE-----") + 26]


class Store:
    """An LMTP server of few words, which keeps what it gets. `answers` has replies by command, or "die"."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.mail: list[tuple[bytes, bytes, bytes]] = []
        self.answers: dict[str, str] = {}
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen(20)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            channel = self._server.accept()[0]
            threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def _serve(self, channel: socket.socket) -> None:
        sender = recipient = b""
        with channel, channel.makefile("rb") as lines:
            channel.sendall(b"220 store\r\n")
            for line in lines:
                verb = line[:4].decode().strip().upper()
                sender = line if verb == "MAIL" else sender
                recipient = line if verb == "RCPT" else recipient
                usual = {"LHLO": "250-store\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING", "DATA": "354 go on"}
                answer = self.answers.get(verb) or usual.get(verb, "250 2.0.0 fine")
                if answer == "die":
                    return
                channel.sendall(answer.encode() + b"\r\n")
                if verb == "DATA" and answer.startswith("354"):
                    pieces = []
                    while (line := lines.readline()) != b".\r\n":
                        if not line or self.answers.get("body") == "die":
                            return
                        pieces.append(line[line.startswith(b".") :])
                    verdict = self.answers.get("end", "250 2.0.0 stored")
                    if verdict.startswith("2"):
                        self.mail.append((sender, recipient, b"".join(pieces)))
                    channel.sendall(verdict.encode() + b"\r\n")


class Client:
    """Postfix's side of LMTP."""

    def __init__(self, path: Path) -> None:
        self.channel = socket.socket(socket.AF_UNIX)
        self.channel.settimeout(60)
        self.channel.connect(str(path))
        self.lines = self.channel.makefile("rb")
        self.reply()
        self.ask(b"LHLO here")

    def reply(self) -> str:
        """A whole reply."""
        text = b""
        while line := self.lines.readline():
            text += line
            if line[3:4] != b"-":
                break
        return text.decode().rstrip("\r\n")

    def ask(self, command: bytes) -> str:
        """The reply to a command."""
        self.channel.sendall(command + b"\r\n")
        return self.reply()

    def send(self, message: bytes, *to: bytes, sender: bytes = b"<bob@example.org>") -> list[str]:
        """Send a message as Postfix does; gives the reply for each recipient."""
        assert self.ask(b"MAIL FROM:" + sender)[:3] == "250"
        for path in to:
            assert (reply := self.ask(b"RCPT TO:" + path))[:3] == "250", reply
        assert self.ask(b"DATA")[:3] == "354"
        body = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]
        self.channel.sendall(body + (b"" if body.endswith(b"\r\n") or not body else b"\r\n") + b".\r\n")
        return [self.reply() for _ in to]

    def close(self) -> None:
        """Go away."""
        self.lines.close()
        self.channel.close()


class Service:
    """`agent seal --lmtp` as a process."""

    def __init__(self, folder: Path, owners: Owners, store: Store, accounts: dict[str, str | None]) -> None:
        self.lmtp, self.policy, self.folder = folder / "lmtp.sock", folder / "policy.sock", folder / "state"
        self.folder.mkdir(exist_ok=True)
        self.recipients = folder / "recipients.json"
        self.declare(accounts, {"both@example.net": ["ann@example.net", "old@example.net"]})
        self.errors = folder / "stderr"
        for path in (self.lmtp, self.policy):
            path.unlink(missing_ok=True)  # so that a new one shows that it is listened on
        words = ["--lmtp", self.lmtp, "--to", store.path, "--policy", self.policy, "--folder", self.folder]
        words += ["--home", owners.public, "--recipients", self.recipients, "--grace", "1h"]
        with self.errors.open("ab") as errors:
            command = [sys.executable, "-m", "agent", "seal", *map(str, words)]
            self.process = subprocess.Popen(command, env=ENVIRON, stderr=errors)
        until(lambda: self.policy.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.errors.read_text()

    def declare(self, accounts: dict[str, str | None], aliases: dict[str, list[str]]) -> None:
        """Write recipients.json."""
        table = {"domain": "example.net", "delimiter": "+", "accounts": accounts, "aliases": aliases}
        new = self.recipients.with_suffix(".new")
        new.write_text(json.dumps(table))
        new.rename(self.recipients)

    def verdict(self, recipient: str) -> str:
        """What the policy service tells smtpd."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(self.policy))
            channel.sendall(f"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient={recipient}\n\n".encode())
            with channel.makefile() as lines:
                action = lines.readline().strip()
                assert lines.readline() == "\n"
        return action.removeprefix("action=")

    def status(self, name: str) -> int:
        """A figure in kB from /proc."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
        assert found
        return int(found[1])

    def end(self) -> int:
        """End it; gives its exit status."""
        self.process.terminate()
        return self.process.wait(30)
