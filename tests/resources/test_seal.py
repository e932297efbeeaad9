"""The sealer with the real gpg, between a client and a store that speak LMTP."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_mail import odd
from seal_tools import ENVIRON, Client, Owners, Service, Store, cipher, until

pytestmark = pytest.mark.xdist_group("seal")
ANN, OLD = b"<ann@example.net>", b"<old@example.net>"
PLAIN = b"From: bob@example.org\r\nTo: ann@example.net\r\nSubject: Marmalade 4711\r\n\r\nbody of Marmalade\r\n"


class Place:
    """Keys, store and sealer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.owners = Owners(folder)
        self.keys = {name: self.owners.make(name) for name in ("ann", "old", "gone", "off")}
        self.keys["signer"] = self.owners.make("signer", encrypts=False)
        self.keys["late"] = self.owners.make("late", words=("--faked-system-time", "20200101T000000"))
        self.owners.revoke(self.keys["gone"])
        off = ["gpg", "--homedir", str(self.owners.public), "--no-tty", "--command-fd", "0", "--edit-key"]
        subprocess.run([*off, self.keys["off"]], input=b"disable\nquit\n", capture_output=True, check=True)
        self.store = Store(folder / "store.sock")
        self.accounts: dict[str, str | None] = {f"{name}@example.net": key for name, key in self.keys.items()}
        self.accounts |= {"none@example.net": None, "old@example.net": None}
        self.service = Service(folder, self.owners, self.store, self.accounts)

    def send(self, message: bytes, *to: bytes, sender: bytes = b"<bob@example.org>") -> list[str]:
        """Send a message over a new connection."""
        client = Client(self.service.lmtp)
        try:
            return client.send(message, *to, sender=sender)
        finally:
            client.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("seal"))
    yield made
    assert made.service.end() == 0, made.service.errors.read_text()
    made.owners.end()
    said = made.service.errors.read_text()
    assert "Marmalade" not in said and "Traceback" not in said and "internal error" not in said, said
    assert not [name for name in os.listdir(made.service.folder) if name != "without-key.json"]


@pytest.fixture(autouse=True)
def fresh(place: Place) -> None:
    place.store.mail.clear()
    place.store.answers.clear()


def run(place: Place, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    at = ["--home", str(place.owners.public), "--recipients", str(place.service.recipients)]
    command = [sys.executable, "-m", "agent", "seal", *words, *at]
    return subprocess.run(command, input=stdin, env=ENVIRON, capture_output=True, check=False)


def test_a_message_for_two_is_sealed_for_each_alone(place: Place) -> None:
    replies = place.send(PLAIN, b"<ann+tag@example.net>", b"<Old@example.net>", sender=b"<>")
    assert replies == ["250 2.0.0 stored"] * 2
    (sender, first, one), (_, second, two) = place.store.mail
    assert sender == b"MAIL FROM:<>\r\n"
    assert (first, second) == (b"RCPT TO:<ann+tag@example.net>\r\n", b"RCPT TO:<Old@example.net>\r\n")
    for sealed, key in ((one, "ann"), (two, "old")):
        assert b"Marmalade" not in sealed and b"\r\nSubject: ...\r\n" in sealed
        assert place.owners.original(sealed) == PLAIN
        packets = place.owners.gpg("--list-only", "--status-fd", "1", "--decrypt", stdin=cipher(sealed)).decode()
        ids = [line.split()[2] for line in packets.splitlines() if " ENC_TO " in line]
        listing = place.owners.gpg("--with-colons", "--list-keys", place.keys[key]).decode()
        assert len(ids) == 1 and ids[0] in listing


def test_envelope_parameters_go_on(place: Place) -> None:
    client = Client(place.service.lmtp)
    assert client.ask(b"MAIL FROM:<b@b> BODY=8BITMIME SMTPUTF8 SIZE=99")[:3] == "250"
    assert client.ask('RCPT TO:<"a b"@ärger.de>'.encode())[:3] == "450"
    assert client.ask(b"RCPT TO:<ann@example.net>")[:3] == "250"
    assert client.ask(b"DATA")[:3] == "354"
    client.channel.sendall(b"A: b\r\n\r\n.\r\nMAIL FROM:<again@b>\r\n")  # the next command comes along
    assert [client.reply()[:3], client.reply()[:3]] == ["250", "250"]
    assert client.ask(b"RCPT TO:" + ANN)[:3] == "250" and client.ask(b"RSET")[:3] == "250"
    assert client.ask(b"DATA")[:3] == "503"
    client.close()
    assert place.store.mail[0][0] == b"MAIL FROM:<b@b> BODY=8BITMIME SMTPUTF8\r\n"


@pytest.mark.parametrize(
    ("where", "answer"),
    [
        ("MAIL", "451 4.3.1 later"), ("RCPT", "550 5.1.1 <ann@example.net> User doesn't exist"),
        ("DATA", "452 4.2.2 full"), ("end", "552-5.2.2 over\r\n552 5.2.2 quota"), ("end", "451 4.2.0 later"),
    ],
)  # fmt: skip
def test_the_verdict_of_the_next_server_is_passed_on(place: Place, where: str, answer: str) -> None:
    client = Client(place.service.lmtp)
    place.store.answers[where] = answer
    assert client.send(PLAIN, ANN) == [answer]
    place.store.answers.clear()
    assert client.send(PLAIN, ANN) == ["250 2.0.0 stored"], "the connection goes on"
    client.close()


@pytest.mark.parametrize("where", ["LHLO", "MAIL", "DATA", "body"])
def test_where_the_next_server_dies_the_message_waits(place: Place, where: str) -> None:
    place.store.answers[where] = "die"
    assert place.send(PLAIN, ANN)[0][:3] == "451"
    place.store.answers.clear()
    assert place.send(PLAIN, ANN) == ["250 2.0.0 stored"]
    assert len(place.store.mail) == 1


def test_recipients_without_a_usable_key_are_put_off(place: Place) -> None:
    client = Client(place.service.lmtp)
    client.ask(b"MAIL FROM:<b@b>")
    for name in (b"gone", b"off", b"signer", b"late", b"none", b"stranger"):
        assert client.ask(b"RCPT TO:<" + name + b"@example.net>")[:9] == "450 4.7.1", name
    client.close()


def test_policy_follows_keys_and_accounts(place: Place) -> None:
    service = place.service
    assert service.verdict("Ann+x@example.net") == service.verdict("stranger@example.org") == "DUNNO"
    for name in ("gone", "off", "signer", "late", "none"):
        assert service.verdict(f"{name}@example.net")[:9] == "450 4.7.1", name
    ledger = service.folder / "without-key.json"
    since = json.loads(ledger.read_text())
    assert set(since) == {f"{name}@example.net" for name in ("gone", "off", "signer", "late", "none")}
    assert service.verdict("both@example.net") == "DUNNO"
    service.declare(place.accounts, {"both@example.net": ["ann@example.net", "none@example.net"]})
    assert service.verdict("BOTH@example.net")[:3] == "450"
    place.keys["none"] = place.owners.make("none")  # the keyring changed
    assert service.verdict("both@example.net") == "DUNNO"
    assert "none@example.net" not in json.loads(ledger.read_text())


def test_after_the_grace_period_mail_is_refused_also_over_a_restart(place: Place) -> None:
    place.service.verdict("gone@example.net")
    assert place.service.end() == 0
    ledger = place.service.folder / "without-key.json"
    since = json.loads(ledger.read_text())
    ledger.write_text(json.dumps(since | {"gone@example.net": since["gone@example.net"] - 3601}))
    place.service = Service(place.folder, place.owners, place.store, place.accounts)
    assert place.service.verdict("gone@example.net")[:9] == "550 5.7.1"
    assert place.service.verdict("signer@example.net")[:3] == "450"


def test_a_broken_list_of_recipients_delays_and_nothing_else(place: Place) -> None:
    good = place.service.recipients.read_text()
    place.service.recipients.write_text("{")
    assert place.service.verdict("ann@example.net")[:3] == "450"
    client = Client(place.service.lmtp)
    client.ask(b"MAIL FROM:<b@b>")
    assert client.ask(b"RCPT TO:" + ANN)[:3] == "451"
    client.close()
    place.service.recipients.write_text(good)
    assert place.service.verdict("ann@example.net") == "DUNNO"


SEALED = b"Content-Type: multipart/encrypted; boundary=b\r\nSubject: x\r\n\r\n--b\r\n.\r\n..x\r\n"


def test_what_is_sealed_already_passes_unchanged(place: Place) -> None:
    message = SEALED + b"y" * 300000 + b"\r\n.z\r\n"
    assert place.send(message, ANN, OLD) == ["250 2.0.0 stored"] * 2
    assert [mail[2] for mail in place.store.mail] == [message] * 2


def gpgs(place: Place) -> list[int]:
    """The sealer's gpg processes."""
    path = Path(f"/proc/{place.service.process.pid}/task/{place.service.process.pid}/children")
    return [int(word) for word in path.read_text().split()]


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_gpg_killed_delays_the_message(place: Place, size: int) -> None:
    client = Client(place.service.lmtp)
    for command in (b"MAIL FROM:<b@b>", b"RCPT TO:" + ANN, b"DATA"):
        client.ask(command)
    client.channel.sendall(PLAIN + b"x" * size)
    until(lambda: gpgs(place))
    os.kill(gpgs(place)[0], signal.SIGKILL)
    client.channel.sendall(b"\r\n.\r\n")
    assert client.reply()[:3] == "451"
    assert client.send(PLAIN, ANN) == ["250 2.0.0 stored"]
    client.close()
    assert len(place.store.mail) == 1


def test_a_client_that_vanishes_leaves_nothing(place: Place) -> None:
    for size in (0, 600_000):
        client = Client(place.service.lmtp)
        for command in (b"MAIL FROM:<b@b>", b"RCPT TO:" + ANN, b"DATA"):
            client.ask(command)
        client.channel.sendall(PLAIN + b"x" * size)
        client.close()
    until(lambda: not gpgs(place))
    assert place.send(PLAIN, ANN) == ["250 2.0.0 stored"]
    assert len(place.store.mail) == 1


def test_what_is_in_hand_is_finished_before_the_end(place: Place) -> None:
    client = Client(place.service.lmtp)
    for command in (b"MAIL FROM:<b@b>", b"RCPT TO:" + ANN, b"DATA"):
        client.ask(command)
    place.service.process.terminate()
    until(lambda: _refuses(place))
    client.channel.sendall(PLAIN + b".\r\n")
    assert client.reply() == "250 2.0.0 stored"
    assert place.service.process.wait(30) == 0
    client.close()
    place.service = Service(place.folder, place.owners, place.store, place.accounts)


def _refuses(place: Place) -> bool:
    try:
        Client(place.service.lmtp).close()
    except OSError:
        return True
    return False


def check(place: Place, client: Client, message: bytes) -> None:
    place.store.mail.clear()
    assert client.send(message, ANN) == ["250 2.0.0 stored"]
    sent = message if message.endswith(b"\r\n") or not message else message + b"\r\n"
    assert place.owners.original(place.store.mail[0][2]) == sent


def test_odd_messages_come_back_byte_for_byte(place: Place) -> None:
    client = Client(place.service.lmtp)
    for seed in range(200):
        check(place, client, odd(seed))
    parts = b"".join(b"--b\r\nContent-Type: text/plain\r\n\r\n%d\r\n" % number for number in range(10_000))
    check(place, client, b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts + b"--b--\r\n")
    for message in (b"", b"\r\n", b"no header", b"Only: header", b"H: x\r\n" * 100_000, b"S: " + b"x" * 600_000):
        check(place, client, message)
    client.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"\0", b"a", b"A: b", b" ", b"\xff"]), max_size=20))
def test_any_bytes_come_back(place: Place, pieces: list[bytes]) -> None:
    client = Client(place.service.lmtp)
    check(place, client, b"".join(pieces))
    client.close()


def test_memory_does_not_grow_with_the_message(place: Place) -> None:
    client = Client(place.service.lmtp)
    rng = random.Random(5)
    message = b"Subject: large\r\n\r\n" + b"".join(rng.randbytes(36).hex().encode() + b"\r\n" for _ in range(700_000))
    assert len(message) > 50_000_000
    highest: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            highest.append(place.service.status("VmRSS"))

    watcher = threading.Thread(target=look)
    watcher.start()
    assert client.send(message, ANN, OLD) == ["250 2.0.0 stored"] * 2
    done.set()
    watcher.join()
    client.close()
    assert max(highest) < 60_000 and place.service.status("VmHWM") < 60_000
    assert place.owners.original(place.store.mail[1][2]) == message


def test_two_at_a_time(place: Place) -> None:
    replies: list[list[str]] = []
    threads = [threading.Thread(target=lambda: replies.append(place.send(PLAIN, ANN))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [["250 2.0.0 stored"]] * 12 and len(place.store.mail) == 12


def test_filter(place: Place) -> None:
    message = PLAIN.replace(b"\r\n", b"\n")
    done = run(place, "Ann+x@example.net", stdin=message)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\r" not in done.stdout and b"Marmalade" not in done.stdout
    assert place.owners.original(done.stdout) == message
    assert run(place, "ann@example.net", stdin=done.stdout).stdout == done.stdout
    opened = run(place, "--open", stdin=place.owners.gpg("--decrypt", stdin=cipher(done.stdout)))
    assert (opened.returncode, opened.stdout) == (0, message)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["gone@example.net"], 1, "was revoked"), (["signer@example.net"], 1, "can only sign"),
        (["off@example.net"], 1, "is disabled"), (["late@example.net"], 1, "expired on 20"),
        (["nobody@example.net"], 1, "is no key"), (["not an address"], 3, "not a mail"), ([], 3, "give one"),
        (["--lmtp", "/x"], 3, "needs --to"), (["--open"], 1, "Sealed-Original"), (["--notify", "a@b"], 3, "--expiring"),
        (["--lmtp", "/x/l", "--to", "/x/t", "--folder", "/tmp"], 1, "cannot listen on /x/l"),
        (["--lmtp", "/x", "--to", "/y", "--grace", "soon"], 3, "not a duration"),
    ],
)  # fmt: skip
def test_what_fails_writes_nothing(place: Place, words: list[str], status: int, said: str) -> None:
    done = run(place, *words, stdin=PLAIN)
    assert (done.returncode, done.stdout) == (status, b""), done.stderr
    assert said in done.stderr.decode() and b"Traceback" not in done.stderr


def test_a_gpg_that_fails_writes_nothing(place: Place, tmp_path: Path) -> None:
    for name in ("pubring.kbx", "trustdb.gpg"):
        shutil.copy(place.owners.public / name, tmp_path)
    words = ["ann@example.net", "--home", str(tmp_path), "--recipients", str(place.service.recipients)]
    limit = ["prlimit", "--fsize=1000", sys.executable, "-m", "agent", "seal", *words]
    done = subprocess.run(limit, input=os.urandom(900_000), env=ENVIRON, capture_output=True, check=False)
    assert done.returncode == 1 and done.stdout == b"" and b"cannot be kept" in done.stderr


def test_who_is_told_of_an_end(place: Place) -> None:
    from agent.mail.seal.expiry import expiring, tell
    from agent.mail.seal.keys import Keys, Recipients

    folder = place.folder / "told"
    folder.mkdir()
    letters: list[tuple[str, str]] = []

    def told(days: int) -> list[str]:
        keys = Keys(str(place.owners.public), str(place.service.recipients), lambda: until_ - days * 86400 + 60)
        return tell(expiring(keys), str(folder), lambda account, letter: letters.append((account, letter)))

    until_ = Keys(str(place.owners.public), str(place.service.recipients))
    until_.refresh()
    until_ = until_.until("ann@example.net")  # type: ignore[assignment]
    assert told(40) == []
    for days in (30, 14, 7):
        assert {"ann@example.net", "old@example.net"} <= set(told(days))
        assert told(days) == [], "once only"
    assert told(0) == [], "they would not get it"
    assert "Marmalade" not in str(letters)
    assert letters[0][1].startswith("From: postmaster@example.net\nTo: ann@example.net\n")
    fingerprint = Recipients.read(str(place.service.recipients)).accounts["ann@example.net"]
    assert f"gpg --quick-set-expire {fingerprint} 2y '*'\n" in letters[0][1]
    assert "agent account key ann@example.net --key key.asc\n" in letters[0][1]
    listed = json.loads(run(place, "--expiring", "--json").stdout)["expiring"]
    assert {row["account"] for row in listed} >= {"gone@example.net", "signer@example.net"}
