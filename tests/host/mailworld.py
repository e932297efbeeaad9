"""The world around a mail server under test: name server, senders, mail programs, and the owners of OpenPGP keys."""

from __future__ import annotations

import base64
import email
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

from installed import Installed

DOMAIN = "supersecure.example.net"
FRIEND = "bob@friend.example"
WORLD = "10.213.77.1"
"""The address that the tests' own mail comes from."""

DNS = f"""
[Unit]
Before=postfix.service opendkim.service
[Service]
ExecStart=dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --listen-address=127.0.0.1 \\
    --bind-interfaces --local=/#/ --host-record=mail.friend.example,{WORLD} \\
    --mx-host=friend.example,mail.friend.example "--txt-record=friend.example,v=spf1 ip4:{WORLD} -all" \\
    --mx-host=forged.example,mail.forged.example "--txt-record=forged.example,v=spf1 -all"
[Install]
WantedBy=multi-user.target
"""

TALK = """
import base64, imaplib, json, smtplib, ssl, sys
given = json.load(sys.stdin)
any_certificate = ssl.create_default_context()
any_certificate.check_hostname, any_certificate.verify_mode = False, ssl.CERT_NONE
said = {}
def smtp():
    if given["port"] == 465:
        return smtplib.SMTP_SSL(given["host"], 465, given["helo"], timeout=60, context=any_certificate)
    return smtplib.SMTP(given["host"], given["port"], given["helo"], timeout=60)
def imap():
    # Dovecot sees that its database was gone at the first login that asks it.
    for _ in range(5):
        server = imaplib.IMAP4_SSL(given["host"], 993, ssl_context=any_certificate, timeout=60)
        try:
            server.login(given["user"], given["password"])
            break
        except imaplib.IMAP4.error as error:
            if "UNAVAILABLE" not in str(error):
                raise
    return server
if given["port"] == 993:
    with imap() as server:
        said["folders"] = [line.decode() for line in server.list()[1]]
        server.select()
        said["messages"] = []
        for number in server.search(None, "UNSEEN")[1][0].split():
            said["messages"].append(base64.b64encode(server.fetch(number, "(RFC822)")[1][0][1]).decode())
else:
    with smtp() as server:
        said["ehlo"] = server.ehlo()[1].decode()
        if given["port"] == 587:
            server.starttls(context=any_certificate)
            server.ehlo()
        code = 250
        if given["user"]:
            code, answer = server.docmd("AUTH", "PLAIN " + base64.b64encode(
                ("\\0" + given["user"] + "\\0" + given["password"]).encode()).decode())
            code = 250 if code == 235 else code
        if code == 250:
            code, answer = server.mail(given["sender"])
        for recipient in given["recipients"] if code == 250 else []:
            code, answer = server.rcpt(recipient)
        if code == 250:
            code, answer = server.data(base64.b64decode(given["message"]))
        said |= {"code": code, "answer": answer.decode()}
print(json.dumps(said))
"""


@dataclass
class Owner:
    """Somebody with an account, a password and a private key that the server never sees."""

    name: str
    home: str
    mail: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What came, as it is stored, and decrypted."""

    @property
    def address(self) -> str:
        """The account."""
        return f"{self.name}@{DOMAIN}"

    @property
    def password(self) -> str:
        """Its password."""
        return f"secret-{self.name}"

    def gpg(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run gpg with the owner's keys."""
        common = ["gpg", "--homedir", self.home, "--batch", "--quiet", "--passphrase", ""]
        return subprocess.run([*common, *words], input=data, capture_output=True, check=False)

    def opened(self, stored: bytes) -> bytes | None:
        """A message as the owner reads it; None where it is for somebody else."""
        parts = email.message_from_bytes(stored).get_payload()
        assert isinstance(parts, list), stored
        done = self.gpg("--decrypt", data=bytes(parts[1].get_payload(decode=True)))
        return done.stdout if done.returncode == 0 else None


def owner(name: str) -> Owner:
    """Somebody with a new key."""
    made = Owner(name, tempfile.mkdtemp(prefix="gpg-"))
    done = made.gpg("--quick-gen-key", f"{name} <{made.address}>", "ed25519", "default", "1y")
    done = made.gpg("--quick-add-key", fingerprint(made), "cv25519") if done.returncode == 0 else done
    assert done.returncode == 0, done.stderr
    return made


def fingerprint(of: Owner) -> str:
    """The fingerprint of the owner's key."""
    lines = of.gpg("--with-colons", "--list-keys").stdout.decode().splitlines()
    return next(line.split(":")[9] for line in lines if line.startswith("fpr"))


def talk(host: Installed, port: int, **given: Any) -> dict[str, Any]:
    """Connect from outside as a mail server (25) or a mail program would; what was answered last."""
    given = {"user": "", "password": "", "sender": FRIEND, "recipients": [], "helo": "mail.friend.example"} | given
    message = given.pop("message", b"")
    given |= {"host": host.address, "port": port, "message": base64.b64encode(message).decode()}
    said: dict[str, Any] = json.loads(host.python(TALK, stdin=json.dumps(given)))
    return said


def letter(subject: str, body: str, to: str, sender: str = FRIEND) -> bytes:
    """A message."""
    return f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\n{body}\r\n".encode()


def bring(host: Installed, text: str, to: str, **more: Any) -> dict[str, Any]:
    """Bring a message to port 25, and come again as long as the greylist, or a service that just starts, says so.

    So does a sender whose connection came to nothing; what the host says of itself then is shown.
    """
    end = time.monotonic() + 240
    while True:
        try:
            said = talk(host, 25, recipients=[to], message=letter(f"about {text}", text, to), **more)
        except AssertionError as error:
            print(error, host.sh("ps -e -o pid,etimes,wchan:24,args; journalctl --no-pager -n 120", status=None))
            if time.monotonic() > end or "timed out" not in str(error):
                raise
            continue
        if said["code"] < 400 or said["code"] >= 500 or time.monotonic() > end - 200:
            return said
        time.sleep(0.5)


def fetched(host: Installed, reader: Owner) -> None:
    """Fetch what is new by IMAP, and open it."""
    said = talk(host, 993, user=reader.address, password=reader.password)
    for each in map(base64.b64decode, said["messages"]):
        reader.mail.append((each, reader.opened(each) if b"multipart/encrypted" in each else each))


def arrived(host: Installed, reader: Owner, text: str) -> tuple[bytes, bytes]:
    """The message with a text in it, as it is stored and as the owner reads it; fails where it does not come."""
    for turn in range(60):
        if turn % 10 == 9:
            host.run("postqueue", "-f")  # what was put off once is tried again after minutes
        found = [pair for pair in reader.mail if text.encode() in pair[1]]
        if found:
            return found[0]
        time.sleep(0.3)
        fetched(host, reader)
    raise AssertionError(f"{text!r} did not arrive\n" + host.out("sh", "-c", "postqueue -p; journalctl -n 60 -o cat"))
