"""The whole mail server, from outside: a second host plays the world, and programs not written here are the judges."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installed import ROOT, Installed
from judge_world import DOMAIN, FRIEND, Outside
from odd_mail import as_it_comes, header_and_body, odd

pytestmark = pytest.mark.host

SITE = "/etc/state-agent/site.toml"
ANN, BERT, INFO = (f"{name}@{DOMAIN}" for name in ("ann", "bert", "info"))
KEYLESS = ("gone", "late", "signer")
"""Accounts whose key was revoked, has expired, or can only sign."""
VALUES = """
[values.certificate]
directory_url = "https://{world}:14000/dir"
ca_file = "/root/ca.pem"
[values.postfix]
message_size_mb = 80
[values.postgrey]
delay = "1s"
[values.opendkim]
nameservers = ["{world}"]
[values.spamassassin]
network_tests = false
mark_score = 100
[values.fail2ban]
ignore = ["127.0.0.0/8", "{world}"]
[values.dns]
ipv4 = "{mail}"
"""
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
EMPTY = '[ -z "$(postqueue -j)" ]'
"""The queue is."""
PORTS = (25, 465, 587, 993)


@pytest.fixture(scope="module")
def world(new_host: Callable[[str], Installed]) -> Iterator[Outside]:
    """The world."""
    host = Outside(f"world-{os.getpid()}")
    yield host
    host.tool("down", host.name)


@pytest.fixture(scope="module")
def mail(new_host: Callable[[str], Installed], world: Outside) -> Installed:
    """A host with the shipped site, two accounts, and a certificate from the world's authority."""
    host = new_host("judged")
    world.furnish(host.address, ("ann", "bert", *KEYLESS))
    world.issue(90 * 86400)
    host.write("/etc/resolv.conf", f"nameserver {world.address}\n")
    host.write("/root/ca.pem", world.read("/root/ca.pem"))
    host.write(SITE, (ROOT / "site.toml").read_text() + VALUES.format(world=world.address, mail=host.address))
    host.agent("apply")
    for name in ("ann", "bert"):
        host.write(f"/root/{name}.asc", world.read(f"/root/{name}.asc"))
        words = ("--key", f"/root/{name}.asc", "--alias", INFO, "--password-stdin")
        host.run("agent", "account", "add", f"{name}@{DOMAIN}", *words, stdin=f"secret-{name}")
    host.agent("apply")
    world.serve(host.address, host.agent("dns").stdout)
    return host


def letter(mark: str, *more: str, to: str = ANN, body: str = "") -> bytes:
    """A message with a mark in subject and body, as swaks is to send it."""
    head = [f"From: {FRIEND}", f"To: {to}", f"Subject: about {mark}", "Date: Sun, 22 Nov 2026 20:52:49 +0000", *more]
    return "\r\n".join([*head, "", body or f"grüße von {mark}", ""]).encode()


def send(world: Outside, message: bytes, *words: str, to: str = ANN) -> None:
    """Have swaks bring a message to port 25 over TLS, again and again as long as it is greylisted."""
    world.write("/root/letter.eml", message.decode().replace("\r\n", "\n")[:-1])  # swaks ends the last line
    tls = ("--tls", "--tls-verify", "--tls-ca-path", "/root/roots.pem")
    for _ in range(20):
        said = world.swaks("--to", to, *tls, "--data", "@/root/letter.eml", *words, status=None)
        if "Greylisted" not in said:
            break
        world.sh("sleep 0.5")
    assert " queued as " in said, said


def wait(host: Installed, condition: str, seconds: int = 90) -> None:
    """Wait until a shell's condition holds."""
    turns = f"for turn in $(seq {seconds * 5}); do if {condition}; then exit 0; fi; sleep 0.2; done"
    host.sh(f"{turns}; echo 'never: {condition.replace(chr(39), '')}' >&2; exit 1")


FIND = """
for turn in $(seq 60); do
    mbsync -q $0 2> /root/mbsync.err || true
    for file in $(ls -t mail/$0/INBOX/new/* mail/$0/INBOX/cur/* 2> /dev/null); do
        if { cat $file; GNUPGHOME=keys/$0 gpg -q --batch -d $file 2> /dev/null; } | grep -qaF -- "$1"; then
            echo $file; exit
        fi
    done
    sleep 0.5
done
cat /root/mbsync.err
exit 1
"""
CIPHER = "sed -n '/BEGIN PGP MESSAGE/,/END PGP MESSAGE/p' $0"


def arrived(world: Outside, name: str, mark: str) -> str:
    """The file in which mbsync has brought a message with a mark, in clear or sealed."""
    return world.out("sh", "-euc", FIND, name, mark)


def bytes_of(world: Outside, script: str, *words: str) -> bytes:
    """What a script in the world writes."""
    return base64.b64decode(world.out("sh", "-euc", f"{{ {script}; }} | base64 -w0", *words))


def original(inside: bytes) -> bytes:
    """What was sent, out of what gpg or sq decrypts, by the rule of docs/design/021."""
    found = re.match(rb"Sealed-Original: (\d+) (\d+)\r?\n", inside)
    assert found, inside[:200]
    return inside[int(found[1]) : len(inside) - int(found[2])]


def holds(came: bytes, sent: tuple[list[bytes], bytes]) -> bool:
    """Whether the header that was sent came in one piece and last, and the body whole: only trace fields are new."""
    fields, body = header_and_body(came)
    head, wanted = (b"".join(field + b"\r\n" for field in each) for each in (fields, sent[0]))
    return body == sent[1] and (b"\r\n" + head).endswith(wanted)


def test_the_certificate_is_served_and_right_for_openssl(mail: Installed, world: Outside) -> None:
    assert len({world.certificate(port) for port in PORTS}) == 1


@pytest.mark.parametrize("port", PORTS)
def test_sslscan_finds_no_old_protocol_and_nothing_anonymous(mail: Installed, world: Outside, port: int) -> None:
    start = ["--starttls-smtp"] if port in (25, 587) else []
    told = world.out("sslscan", "--no-colour", *start, f"{DOMAIN}:{port}")
    states = dict(re.findall(r"^((?:SSL|TLS)v\S+) +(enabled|disabled)", told, re.MULTILINE))
    assert {name for name, state in states.items() if state == "enabled"} == {"TLSv1.2", "TLSv1.3"}
    assert {"SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"} <= states.keys()
    ciphers = re.findall(r"^(?:Preferred|Accepted) +TLS.* bits +(\S+)", told, re.MULTILINE)
    assert [name for name in ciphers if "ECDHE-ECDSA" in name], "of TLS 1.2"
    assert not [name for name in ciphers if re.search("A(EC)?DH|NULL|anon", name)], "all show a certificate"
    assert not re.search(r"^(Accepted|Preferred) .*(NULL|EXP|anon|RC4|DES-CBC|MD5)", told, re.MULTILINE)


def test_from_outside_to_the_owner_alone(mail: Installed, world: Outside) -> None:
    sent = letter("marmalade", "Message-ID: <marmalade@friend.example>")
    world.write("/root/letter.eml", "")
    said = world.swaks("--to", ANN, "--data", "@/root/letter.eml", status=24)
    assert "450 4.2.0" in said
    assert "Greylisted" in said
    send(world, sent)
    file = arrived(world, "ann", "marmalade")
    assert b"marmalade" not in bytes_of(world, "cat $0", file).replace(b"<marmalade@friend.example>", b"")
    by_gpg = bytes_of(world, f"{CIPHER} | GNUPGHOME=keys/ann gpg -q --batch -d", file)
    by_sq = bytes_of(world, f"{CIPHER} > c.asc; sq --batch decrypt --recipient-file ann.private c.asc", file)
    assert by_gpg == by_sq
    assert holds(original(by_gpg), as_it_comes(sent))
    assert b"\r\nReceived-SPF: Pass" in by_gpg


NOTMUCH = """
export GNUPGHOME=/root/keys/ann NOTMUCH_CONFIG=/root/notmuch
printf '[database]\\npath=/root/mail/ann\\n[index]\\ndecrypt=true\\n' > /root/notmuch
notmuch new --quiet
notmuch search --format=json subject:marmalade
"""


def test_notmuch_shows_the_subject(mail: Installed, world: Outside) -> None:
    assert [row["subject"] for row in json.loads(world.sh(NOTMUCH))] == ["about marmalade"]


def test_spam_is_marked_before_it_is_sealed(mail: Installed, world: Outside) -> None:
    send(world, letter("gtube", body=GTUBE))
    inside = bytes_of(world, f"{CIPHER} | GNUPGHOME=keys/ann gpg -q --batch -d", arrived(world, "ann", GTUBE))
    assert b"\r\nX-Spam-Flag: YES\r\n" in inside
    assert b"\r\nSubject: *****SPAM***** about gtube\r\n" in original(inside)


def test_an_alias_of_two_is_sealed_for_each_alone(mail: Installed, world: Outside) -> None:
    send(world, letter("for-two", to=INFO), to=INFO)
    files = {name: arrived(world, name, "for-two") for name in ("ann", "bert")}
    keys = "gpg --batch --list-only --status-fd 1 -d $1 2> /dev/null | grep -c ' ENC_TO '"
    for name, file in files.items():
        other = "bert" if name == "ann" else "ann"
        assert world.out("sh", "-euc", f"GNUPGHOME=keys/{name} {keys}", "x", file) == "1"
        world.run("gpg", "--homedir", f"keys/{other}", "--batch", "-d", file, status=2)


SEALED_BEFORE = {
    "PGP": (
        'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="b"',
        "gpg --homedir keys/ann --batch --armor --trust-model always -r ann -e",
        "--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\n"
        "Content-Type: application/octet-stream\r\n\r\n{text}\r\n--b--\r\n",
        f"{CIPHER} | gpg --homedir keys/ann -q --batch -d",
    ),
    "S/MIME": (
        'Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"\r\n'
        "Content-Transfer-Encoding: base64",
        "openssl cms -encrypt -aes256 -outform PEM smime.pem | grep -v -- ----",
        "{text}",
        "openssl cms -decrypt -recip smime.pem -inkey smime.key -in $0",
    ),
}


@pytest.mark.parametrize("kind", SEALED_BEFORE)
def test_what_is_encrypted_already_is_not_sealed_again(mail: Installed, world: Outside, kind: str) -> None:
    field, seal, body, opened = SEALED_BEFORE[kind]
    text = world.sh(f"printf 'Content-Type: text/plain\\n\\nwithin-{kind}\\n' | {seal}")
    mark = f"sealed-by-{kind.replace('/', '')}"
    send(world, letter(mark, "MIME-Version: 1.0", field, body=body.format(text=text)))
    file = arrived(world, "ann", mark)
    assert f"within-{kind}".encode() in bytes_of(world, opened, file)
    assert b"Sealed-Original" not in bytes_of(world, opened, file)


def test_who_has_no_usable_key_is_refused(mail: Installed, world: Outside) -> None:
    folder = "/etc/state-agent/accounts.d"
    for name in KEYLESS:
        mail.write(f"{folder}/{name}.asc", world.read(f"/root/{name}.asc"))
        account = f'email = "{name}@{DOMAIN}"\nkey = "{folder}/{name}.asc"\n'
        mail.write(f"{folder}/{name}@{DOMAIN}.toml", f"[[values.accounts]]\n{account}")
    mail.agent("apply", status=None)
    for name in KEYLESS:
        said = world.swaks("--to", f"{name}@{DOMAIN}", status=24)
        assert re.search(r"\n<\*\* 450 .*key", said), said
    mail.sh("".join(f"rm {folder}/{name}*; " for name in KEYLESS))
    mail.agent("apply")


LEAKS = """
find / -xdev -path /usr -prune -o -type f -print0 | xargs -0 grep -laF -- "$0" || true
for place in /tmp /run /dev/shm; do grep -rlaF -- "$0" $place || true; done
journalctl --all --output=export | grep -aF -- "$0" || true
"""
"""Finds a mark in everything but the encrypted store, and in the journal."""


def test_a_message_leaves_no_trace_in_clear(mail: Installed, world: Outside) -> None:
    mark = f"canary-{os.getpid()}"
    sent = letter(mark, f'Content-Type: text/plain; charset=utf-8; name="{mark}.txt"')
    places = {}

    def look(when: str) -> None:
        assert mail.sh(f"grep -rlaF {mark} /srv/mail"), f"{when}: there it must be"
        places[when] = mail.out("sh", "-euc", LEAKS, mark)

    mail.sh("systemctl stop amavis")
    send(world, sent)
    wait(mail, "postqueue -j | grep -q 'Connection refused'")
    look("not scanned yet")
    mail.sh("systemctl stop state-agent-seal; systemctl start amavis")
    wait(mail, "postqueue -f; postqueue -j | grep -q 'lmtp.sock'")
    look("deferred")
    mail.sh("postsuper -h ALL 2> /dev/null")
    look("held")
    mail.sh("systemctl start state-agent-seal; postsuper -H ALL 2> /dev/null")
    wait(mail, f"postqueue -f; {EMPTY}")
    arrived(world, "ann", mark)
    places["delivered"] = mail.out("sh", "-euc", LEAKS, mark)
    assert places == dict.fromkeys(places, "")
    assert mail.sh(f"grep -rlaF {mark} /srv/mail || true") == "", "not even in the store"


def login(port: int, name: str = "ann") -> tuple[str, ...]:
    """How a mail program submits."""
    tls = "--tls" if port == 587 else "--tls-on-connect"
    secret = ("--auth", "PLAIN", "--auth-user", f"{name}@{DOMAIN}", "--auth-password", f"secret-{name}")
    return ("--port", str(port), tls, "--tls-verify", "--tls-ca-path", "/root/roots.pem", *secret)


def test_a_bounce_is_sealed_as_well(mail: Installed, world: Outside) -> None:
    mark = f"bounced-{os.getpid()}"
    gone = "nobody@friend.example"
    world.swaks(*login(465), "--from", ANN, "--to", gone, "--header", f"Subject: {mark}", "--body", f"{mark}.")
    file = arrived(world, "ann", f"{mark}.")
    inside = bytes_of(world, f"{CIPHER} | gpg --homedir keys/ann -q --batch -d", file)
    assert b"Undelivered Mail Returned to Sender" in inside
    assert b"User unknown" in inside
    wait(mail, EMPTY)
    assert mail.out("sh", "-euc", LEAKS, mark) == ""
    assert mail.sh(f"grep -rlaF {mark} /srv/mail || true") == ""


@pytest.mark.parametrize(("service", "busy"), [
    ("state-agent-seal", "pgrep -u gpgit -x gpg"),
    ("amavis", "ls /srv/mail/amavis/*/email.txt"),
])  # fmt: skip
def test_nothing_is_lost_or_left_where_a_service_is_killed_at_work(
    mail: Installed, world: Outside, service: str, busy: str
) -> None:
    mark = f"killed-{service}-{os.getpid()}"
    mail.sh(
        f"( until {busy} > /dev/null 2>&1; do :; done; systemctl kill -s KILL {service} ) > /dev/null 2>&1 &\n"
        "echo $! > /root/killer"
    )
    send(world, letter(mark, body=f"{mark}\r\n" + "0123456789abcdef\r\n" * 500_000))
    wait(mail, "! kill -0 $(cat /root/killer) 2> /dev/null")
    assert mail.sh(f"grep -rlaF {mark} /srv/mail/queue"), "it waits in the queue"
    assert mail.out("sh", "-euc", LEAKS, mark) == ""
    mail.agent("apply")
    wait(mail, f"postqueue -f; {EMPTY}")
    arrived(world, "ann", mark)
    assert mail.out("sh", "-euc", LEAKS, mark) == ""
    assert mail.sh(f"grep -rlaF {mark} /srv/mail || true") == "", "nothing of it stays"


@pytest.mark.parametrize("port", [587, 465])
def test_what_goes_out_is_anonymous_and_signed(mail: Installed, world: Outside, port: int) -> None:
    mark = f"out-by-{port}"
    world.swaks(*login(port), "--from", ANN, "--to", FRIEND, "--header", f"Subject: {mark}", "--helo", "ann.telltale")
    wait(world, f"grep -rqs {mark} /home/bob/Maildir/new")
    came = bytes_of(world, f"cat $(grep -rl {mark} /home/bob/Maildir/new)")
    signed = came[came.index(b"DKIM-Signature:") :]
    world.write("/root/signed.eml", signed.decode())
    assert world.sh("dkimverify < signed.eml") == "signature ok"
    assert world.run("opendkim-testmsg", stdin=signed.decode()).stderr == ""
    world.write("/root/forged.eml", signed.decode().replace(mark, "forged"))
    world.run("sh", "-c", "opendkim-testmsg < forged.eml", status=70)
    assert not [word for word in (b"telltale", world.address.encode(), b"swaks") if word in signed]
    said = world.swaks(*login(port), "--from", BERT, "--to", FRIEND, status=None)
    assert "553 5.7.1" in said, "ann is not bert"


def test_port_25_relays_nothing_and_asks_for_no_password(mail: Installed, world: Outside) -> None:
    said = world.swaks("--to", FRIEND, "--tls", status=24)
    assert "554 5.7.1 <bob@friend.example>: Relay access denied" in said
    assert "AUTH" not in said


def corpus() -> list[bytes]:
    """Messages that nobody should send: by a generator, by hypothesis, and by hand."""
    found: list[bytes] = []

    @settings(max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"\0", b"a", b"A: b", b" ", b"\xff"]), max_size=20))
    def collect(pieces: list[bytes]) -> None:
        found.append(b"".join(pieces))

    collect()
    parts = b"".join(b"--b\r\nContent-Type: text/plain\r\n\r\n%d\r\n" % number for number in range(10_000))
    found += [
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts + b"--b--",
        b"A: b\r\n\r\n" + b"0123456789abcdefghijklmnopqrstuvwxyz\xe4\r\n" * 1_350_000,
        b"A: b\r\n\r\n" + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 300,
        b"A: b\r\n\r\n" + b"y" * 3_000_000, b"H: x\r\n" * 10_000 + b"\r\nx", b"S: " + b"x" * 300_000 + b"\r\n\r\nx",
        b"no header", b"Only: header", b"From joe Mon\r\nA: b\r\n\r\nx", b" blank\r\nA: b\r\n\r\nx",
        b"Received: from x by y; Sun, 22 Nov 2026 20:52:49 +0000\r\n" * 60 + b"\r\nx",
        b"A: b\r\n\r\na\n.\r\nMAIL FROM:<smuggled@friend.example>\r\nb", b"A: b\0c\r\n d\0e\r\nF: g\r\n\r\nx",
        b"Bcc: x@y\r\nContent-Length: 5\r\nX-Spam-Flag: YES\r\nReturn-Path: <x@y>\r\nFrom: joe\r\nTo: ann, x\r\n\r\nx",
    ]  # fmt: skip
    found += [odd(seed) for seed in range(200 - len(found))]
    return [message if message.endswith(b"\r\n") else message + b"\r\n" for message in found]


def test_odd_messages_are_sealed_as_they_came_or_refused(mail: Installed, world: Outside, tmp_path: Path) -> None:
    messages = corpus()
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, message in enumerate(messages):
        (folder / str(number)).write_bytes(message)
    scripts = [str(ROOT / "tests" / "host" / f"corpus_{name}.py") for name in ("sender", "opener")]
    world.tool("copy", world.name, str(folder), *scripts, "/root/")
    sealer = "systemctl show -P MainPID state-agent-seal"
    before = mail.sh(sealer)
    send(world, letter("greylisted-no-more"))
    answers = json.loads(world.out("python3", "-I", "corpus_sender.py", DOMAIN, ANN, "corpus"))
    wait(mail, EMPTY, 300)
    assert mail.sh(sealer) == before, "the sealer lives"
    assert int(mail.sh(f"awk '/VmHWM/ {{ print $2 }}' /proc/{before}/status")) < 60_000
    world.sh("mbsync -q ann; GNUPGHOME=/root/keys/ann python3 -I corpus_opener.py mail/ann/INBOX opened")
    world.tool("fetch", world.name, "/root/opened", str(tmp_path / "opened"))
    came = {path.name: path.read_bytes() for path in (tmp_path / "opened").iterdir()}
    taken = {name for name, answer in answers.items() if answer.startswith("2")}
    assert {answer[:1] for name, answer in answers.items() if name not in taken} <= {"4", "5"}
    assert came.keys() == taken, "what was taken is there, once, and nothing else is"
    assert len(messages) - len(taken) <= 3, answers
    changed = [
        name for name, opened in came.items()
        if not holds(opened, as_it_comes(messages[int(name)], by_data=int(name) % 3 != 0))
    ]  # fmt: skip
    assert changed == []


def test_a_renewed_certificate_is_served_without_a_restart(mail: Installed, world: Outside) -> None:
    world.issue(36)
    mail.sh("rm -r /etc/state-agent/certificates/mail")
    mail.agent("apply", status=None)
    old = {world.certificate(port) for port in PORTS}
    world.issue(90 * 86400)
    pids = "systemctl show -P MainPID dovecot; cat /srv/mail/queue/pid/master.pid"
    before = mail.sh(pids)
    wait(mail, "! agent apply --check certificate:mail > /dev/null")
    assert mail.outcomes() == {
        "certificate:mail": "changed", "service:postfix": "refreshed", "service:dovecot": "refreshed",
    }  # fmt: skip
    new = {world.certificate(port) for port in PORTS}
    assert (len(old), len(new), old & new) == (1, 1, set())
    assert mail.sh(pids) == before
    assert mail.outcomes("--check") == {}


def test_a_timer_renews_the_certificate_where_no_agent_is_resident(mail: Installed, world: Outside) -> None:
    assert mail.out("systemctl", "is-active", "certificate-renewal.timer") == "active"
    world.issue(36)
    mail.sh("rm -r /etc/state-agent/certificates/mail")
    mail.agent("apply", status=None)
    old = {world.certificate(port) for port in PORTS}
    world.issue(90 * 86400)
    pids = "systemctl show -P MainPID dovecot; cat /srv/mail/queue/pid/master.pid"
    before = mail.sh(pids)
    wait(mail, "! agent apply --check certificate:mail > /dev/null")
    mail.sh("systemctl start certificate-renewal")
    new = {world.certificate(port) for port in PORTS}
    assert (len(old), len(new), old & new) == (1, 1, set())
    assert mail.sh(pids) == before
    assert mail.outcomes("--check") == {}
