"""The shipped site on a bare Debian 13: the whole encrypted mail server, broken in many ways, and mail through it."""

from __future__ import annotations

import json
import re
import shutil
import ssl
from collections.abc import Callable, Iterator

import pytest
from installed import ROOT, Installed
from mailworld import DNS, DOMAIN, FRIEND, WORLD, Owner, arrived, bring, fetched, letter, owner, talk

pytestmark = pytest.mark.host

SITE = "/etc/state-agent/site.toml"
VALUES = f"""
[values.certificate]
provider = "selfsigned"
[values.postgrey]
delay = "1s"
[values.fail2ban]
ignore = ["127.0.0.0/8", "{WORLD}"]
"""
"""The site that ships, for a test: nobody out there gives it a certificate, and there is less time."""


@pytest.fixture(scope="module")
def people() -> Iterator[dict[str, Owner]]:
    """Those with accounts."""
    owners = {name: owner(name) for name in ("ann", "bert")}
    yield owners
    for each in owners.values():
        each.gpg("--kill", "all")
        shutil.rmtree(each.home, ignore_errors=True)


@pytest.fixture(scope="module")
def shipped() -> str:
    """The site that `agent init` writes, which is the one that ships, and the values."""
    return (ROOT / "site.toml").read_text() + VALUES


@pytest.fixture(scope="module")
def mail(new_host: Callable[[str], Installed], shipped: str, people: dict[str, Owner]) -> Installed:
    """A host on the way that the README shows: the package, a first site, an account for everybody."""
    host = new_host("mail")
    host.install("dnsmasq-base")
    host.write("/etc/systemd/system/world.service", DNS)
    host.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    host.sh("systemctl enable --now --quiet world")
    host.agent("init", "--domain", DOMAIN)
    host.write(SITE, host.read(SITE) + VALUES)
    assert host.read(SITE) == shipped
    assert host.agent("apply", "--check", status=2).stdout.startswith("+ file:/etc/mailname")
    told = host.agent("apply").stdout
    assert "a secret was generated into /etc/state-agent/secrets/mailstore; keep a copy of it elsewhere" in told
    assert "the master key of /srv/mail is in " in told
    host.sh("rm /var/lib/state-agent/masterkeys/*")
    for each in people.values():
        host.write(f"/root/{each.name}.asc", each.gpg("--armor", "--export").stdout.decode())
        words = ("--key", f"/root/{each.name}.asc", "--alias", f"info@{DOMAIN}", "--password-stdin")
        host.run("agent", "account", "add", each.address, *words, stdin=each.password)
    host.agent("apply")
    return host


@pytest.fixture
def ann(people: dict[str, Owner]) -> Owner:
    """The first of them."""
    return people["ann"]


@pytest.fixture
def bert(people: dict[str, Owner]) -> Owner:
    """The second."""
    return people["bert"]


def outcomes(mail: Installed, *words: str, status: int | None = 0) -> dict[str, str]:
    """What `agent apply` found or left other than in desired state, but for DNS, which is others' business."""
    found = mail.outcomes(*words, status=status)
    return {id: outcome for id, outcome in found.items() if not id.startswith("dns_record:")}


@pytest.fixture(autouse=True)
def whole(mail: Installed) -> Iterator[None]:
    """Every test ends with nothing to do."""
    yield
    left = outcomes(mail, "--check", status=None)
    if left:
        mail.agent("apply", status=None)
    assert left == {}, "the test left something to do"


def test_a_second_run_finds_nothing(mail: Installed) -> None:
    assert outcomes(mail) == {}


def test_no_program_has_anything_to_warn_of(mail: Installed) -> None:
    for command in (["postfix", "check"], ["postconf"], ["postconf", "-M"], ["doveconf", "-n"]):
        assert mail.run(*command).stderr == ""
    assert "0 failed" in mail.agent("doctor", *CORE).stdout
    assert mail.out("systemctl", "list-units", "--failed", "--no-legend") == ""


CORE = ("mailstore", "postfix", "certificate", "postgresql", "accounts", "dovecot", "seal")


class TestMailComesIn:
    def test_from_a_stranger_and_is_stored_sealed(self, mail: Installed, ann: Owner) -> None:
        first = talk(mail, 25, recipients=[ann.address], message=letter("early", "early", ann.address))
        assert (first["code"], "Greylisted" in first["answer"]) == (450, True)
        assert "AUTH" not in first["ehlo"]
        assert bring(mail, "the-first-one", ann.address)["code"] == 250
        stored, opened = arrived(mail, ann, "the-first-one")
        assert b"the-first-one" not in stored
        assert b"-----BEGIN PGP MESSAGE-----" in stored
        assert b"Subject: about the-first-one\r\n" in opened.replace(b"\n", b"\r\n").replace(b"\r\r", b"\r")
        assert b"Received-SPF: Pass" in stored + opened

    def test_to_an_alias_of_two_accounts_once_for_each(self, mail: Installed, ann: Owner, bert: Owner) -> None:
        assert bring(mail, "to-both", f"Info+x@{DOMAIN}")["code"] == 250
        both = [arrived(mail, each, "to-both")[0] for each in (ann, bert)]
        assert both[0] != both[1]
        assert (ann.opened(both[1]), bert.opened(both[0])) == (None, None)

    def test_from_the_host_itself(self, mail: Installed, ann: Owner) -> None:
        for name in ("root", "postmaster", "root@localhost"):
            mail.run("sendmail", name, stdin=f"Subject: x\n\nof-this-host-to-{name}.\n")
            assert b"BEGIN PGP MESSAGE" in arrived(mail, ann, f"of-this-host-to-{name}.")[0]

    def test_but_not_for_who_is_not_there_or_elsewhere(self, mail: Installed) -> None:
        assert "User unknown" in bring(mail, "x", f"nobody@{DOMAIN}")["answer"]
        said = bring(mail, "x", "someone@elsewhere.example")
        assert (said["code"], "Relay access denied" in said["answer"]) == (554, True)

    def test_but_not_for_who_has_no_key(self, mail: Installed, ann: Owner) -> None:
        path = f"/etc/state-agent/accounts.d/keyless@{DOMAIN}.toml"
        mail.write(path, f'[[values.accounts]]\nemail = "keyless@{DOMAIN}"\n')
        mail.agent("apply")
        said = talk(mail, 25, recipients=[f"keyless@{DOMAIN}"], message=letter("x", "x", "x"))
        assert (said["code"], "key" in said["answer"]) == (450, True), said
        assert bring(mail, "for-one-with-a-key", ann.address)["code"] == 250
        mail.run("rm", path)
        assert outcomes(mail)["postgres_rows:mail.public.users"] == "changed"
        assert "User unknown" in bring(mail, "x", f"keyless@{DOMAIN}")["answer"]
        arrived(mail, ann, "for-one-with-a-key")


def test_nothing_of_a_message_lies_on_the_disk_in_clear(mail: Installed, ann: Owner) -> None:
    marker = "canary-4f1c-of-the-message"
    on_disk = f"grep -rlaF {marker} /var /etc /root /tmp /run /srv/mail.cipher || true"
    mail.sh("systemctl stop dovecot")
    assert bring(mail, marker, ann.address)["code"] == 250
    mail.sh("while ! postqueue -p | grep -q '^ *('; do sleep 0.1; done", timeout=60)  # put off, and why
    assert mail.sh(f"grep -rlaF {marker} /srv/mail/queue"), "this is where it is to be found"
    assert mail.sh(on_disk) == ""
    mail.sh("systemctl start dovecot; postqueue -f")
    arrived(mail, ann, marker)
    assert mail.sh(on_disk) == ""
    assert mail.sh(f"grep -rlaF {marker} /srv/mail || true") == ""


class TestMailGoesOut:
    @pytest.mark.parametrize("port", [465, 587])
    def test_from_who_logs_in_and_is_who_he_says(self, mail: Installed, ann: Owner, bert: Owner, port: int) -> None:
        login = {"user": bert.address, "password": bert.password, "recipients": [ann.address]}
        for sender in (bert.address, f"info@{DOMAIN}"):
            text = letter("x", f"by-{port}-from-{sender}", ann.address, sender)
            assert talk(mail, port, sender=sender, message=text, **login)["code"] == 250
            arrived(mail, ann, f"by-{port}-from-{sender}")
        for sender in (ann.address, FRIEND):
            said = talk(mail, port, sender=sender, message=b"x", **login)
            assert (said["code"], "not owned by user" in said["answer"]) == (553, True)

    @pytest.mark.parametrize("port", [465, 587])
    def test_from_nobody_else(self, mail: Installed, ann: Owner, port: int) -> None:
        said = talk(mail, port, recipients=[ann.address], message=b"x")
        assert (said["code"], "Access denied" in said["answer"]) == (554, True), said
        said = talk(mail, port, user=ann.address, password="wrong", recipients=[ann.address])
        assert said["code"] == 535
        assert ("AUTH" in said["ehlo"]) is (port == 465)


OLD = """
import socket, ssl, sys
old = ssl.create_default_context()
old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
old.set_ciphers("ALL:@SECLEVEL=0")
old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion[sys.argv[3]]
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 30) as wire:
    if sys.argv[2] in ("25", "587"):
        for words in (b"", b"EHLO x\\r\\n", b"STARTTLS\\r\\n"):
            wire.sendall(words)
            wire.recv(4096)
    try:
        print(old.wrap_socket(wire).version())
    except (ssl.SSLError, OSError):
        print("refused")
"""


@pytest.mark.parametrize("port", ["25", "465", "587", "993"])
def test_no_old_tls(mail: Installed, port: str) -> None:
    spoken = [mail.python(OLD, mail.address, port, version.name).strip()
              for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2)]  # fmt: skip
    assert spoken == ["refused", "TLSv1.2"]


def test_mailboxes_are_served_with_tls_alone(mail: Installed, ann: Owner) -> None:
    ports = {line.split()[3].rpartition(":")[2] for line in mail.out("ss", "-Hltn").splitlines()
             if not line.split()[3].startswith(("127.0.0", "[::1]"))}  # fmt: skip
    assert ports == {"25", "465", "587", "993"}
    folders = talk(mail, 993, user=ann.address, password=ann.password)["folders"]
    assert {line.split()[-1] for line in folders} == {"INBOX", "Trash"}


@pytest.mark.parametrize("scheme", ["SHA512-CRYPT", "SHA512", "ARGON2ID"])
def test_hashes_of_old_passwords(mail: Installed, bert: Owner, scheme: str) -> None:
    path = f"/etc/state-agent/secrets/accounts/{bert.address}"
    mail.run("sh", "-c", f'read -r word; doveadm pw -s {scheme} -p "$word" > {path}', stdin=f"{bert.password}\n")
    assert outcomes(mail) == {"postgres_rows:mail.public.users": "changed"}
    fetched(mail, bert)


def test_the_database_keeps_to_its_readers(mail: Installed) -> None:
    mail.run("psql", "mail", "-c", "SELECT password FROM users", user="dovecot")
    for user, query in (("postfix", "SELECT password FROM users"), ("dovecot", "DELETE FROM users"),
                        ("gpgit", "SELECT 1")):  # fmt: skip
        assert mail.run("psql", "mail", "-c", query, user=user, status=None).returncode != 0
    for row in ("('a@b', '../etc')", "('a@b', '..')", "('a@b', '/etc')", f"('ANN@{DOMAIN}', 'x')", "('a', 'x')"):
        query = f"INSERT INTO users (email, maildir) VALUES {row}"
        assert "constraint" in mail.run("psql", "mail", "-c", query, user="postgres", status=1).stderr


MAIN, MASTER = "file:/etc/postfix/main.cf", "file:/etc/postfix/master.cf"
POSTFIX, DOVECOT, SEAL = "service:postfix", "service:dovecot", "service:state-agent-seal"
USERS, ALIASES = "postgres_rows:mail.public.users", "postgres_rows:mail.public.aliases"
CLUSTER = "service:postgresql@17-main"
STORE = "gocryptfs:/srv/mail"
IN_STORE = (POSTFIX, DOVECOT, SEAL, "service:opendkim", "service:amavis")
DAMAGE: dict[str, tuple[str, dict[str, str]]] = {
    "an edited file": (
        "sed -i 's|^mynetworks.*|mynetworks = 0.0.0.0/0|' /etc/postfix/main.cf; chmod 600 /etc/postfix/main.cf",
        {MAIN: "changed", POSTFIX: "refreshed"},
    ),
    "a deleted file": ("rm /etc/postfix/master.cf", {MASTER: "added", POSTFIX: "refreshed"}),
    "another query": (
        "sed -i s/aliases/users/ /etc/postfix/pgsql-aliases.cf", {"file:/etc/postfix/pgsql-aliases.cf": "changed"},
    ),
    "mailboxes without TLS": ("sed -i 's/port = 0/port = 143/' /etc/dovecot/dovecot.conf; doveadm reload", {
        "file:/etc/dovecot/dovecot.conf": "changed", DOVECOT: "refreshed",
    }),
    "another account": ("psql mail -c \"INSERT INTO users (email, maildir) VALUES ('x@y', 'x')\"", {USERS: "changed"}),
    "a lost account": ("psql mail -c \"DELETE FROM users WHERE email LIKE 'ann%'\"", {
        USERS: "changed", ALIASES: "changed",
    }),
    "more rights": ("psql mail -c 'GRANT ALL ON users TO postfix'", {"postgres_table:mail.public.users": "changed"}),
    "everybody let in": ("sed -i 's/^local mail .*/local all all trust/' /etc/postgresql/17/main/pg_hba.conf", {
        "block:/etc/postgresql/17/main/pg_hba.conf#mail": "changed", CLUSTER: "refreshed",
    }),
    "no list of recipients": ("rm /etc/state-agent/recipients.json", {
        "file:/etc/state-agent/recipients.json": "added",
    }),
    "a lost key": (
        "gpg --homedir /var/opt/gpgit/.gnupg --batch --yes --delete-keys ann", {
            "keyring:/var/opt/gpgit/.gnupg": "changed",
        },
    ),
    "a lost certificate": ("rm -r /etc/state-agent/certificates/mail", {
        "certificate:mail": "added", POSTFIX: "refreshed", DOVECOT: "refreshed",
    }),
    "a killed Postfix": ("systemctl kill -s KILL postfix; while systemctl -q is-active postfix; do sleep 0.1; done", {
        POSTFIX: "changed",
    }),
    "a Postfix without its master": (
        "kill -9 $(cat /srv/mail/queue/pid/master.pid); while systemctl -q is-active postfix; do sleep 0.1; done",
        {POSTFIX: "changed"},
    ),
    "a killed Dovecot": ("systemctl kill -s KILL dovecot; while systemctl -q is-active dovecot; do sleep 0.1; done", {
        DOVECOT: "changed",
    }),
    "a killed database": (
        "systemctl kill -s KILL postgresql@17-main;"
        " while systemctl -q is-active postgresql@17-main; do sleep 0.1; done", {CLUSTER: "changed"},
    ),
    "a stopped sealer": ("systemctl stop state-agent-seal", {SEAL: "changed"}),
    "a masked scanner": ("systemctl mask --now --quiet amavis", {"service:amavis": "changed"}),
    "a killed store": ("kill -9 $(pgrep -x gocryptfs)", {STORE: "changed"} | dict.fromkeys(IN_STORE, "refreshed")),
    "a removed package": ("apt-get -q -y remove postgrey", {"apt:postgrey": "added"}),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_what_breaks_is_shown_and_repaired_and_nothing_else(mail: Installed, ann: Owner, how: str) -> None:
    script, repaired = DAMAGE[how]
    mail.run("sh", "-euc", script, user="postgres" if script.startswith("psql") else "root")
    assert outcomes(mail, "--check", status=2).keys() >= repaired.keys()
    assert outcomes(mail) == repaired
    text = f"after-{how.replace(' ', '-')}"
    assert bring(mail, text, ann.address)["code"] == 250
    arrived(mail, ann, text)


HOLD = """
import os, socket, subprocess, time
path, held = "/srv/mail/queue/private/auth", []
for _ in range(5):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect(path)
    before = os.stat(path).st_ctime_ns
    subprocess.run(["systemctl", "reload", "dovecot"], check=True)
    while not os.path.exists(path) or os.stat(path).st_ctime_ns == before:
        time.sleep(0.05)
    time.sleep(1.5)
socket.socket(socket.AF_UNIX).connect(path)
"""
"""Dovecot makes its socket anew at each reload, as for a new certificate, while somebody still has the old one."""


def test_a_reload_leaves_sockets_in_the_queue_reachable(mail: Installed, ann: Owner) -> None:
    mail.run("python3", "-I", "-c", HOLD)
    text = letter("x", "after-reloads", ann.address, ann.address)
    login = {"user": ann.address, "password": ann.password}
    assert talk(mail, 465, sender=ann.address, recipients=[ann.address], message=text, **login)["code"] == 250
    arrived(mail, ann, "after-reloads")
    assert "pass check:dovecot-auth" in mail.agent("doctor", "dovecot").stdout
    mail.sh("mv /srv/mail/queue/private/auth /srv/mail/queue/private/aside")
    said = mail.agent("doctor", "dovecot", status=1).stdout
    assert "FAIL check:dovecot-auth" in said
    assert "hint: agent apply state:dovecot; systemctl status dovecot; journalctl -u dovecot\n" in said
    mail.sh("mv /srv/mail/queue/private/aside /srv/mail/queue/private/auth")


def test_what_postfix_would_not_start_with_never_gets_there(mail: Installed) -> None:
    before = mail.read("/etc/postfix/main.cf")
    mail.sh("mkdir /etc/state-agent/states; cp -r /usr/share/state-agent/states/postfix /etc/state-agent/states/")
    mail.sh("echo 'this is no setting' >> /etc/state-agent/states/postfix/main.cf")
    done = mail.agent("apply", status=1)
    assert "this is no setting" in done.stdout
    assert mail.read("/etc/postfix/main.cf") == before
    mail.sh("rm -r /etc/state-agent/states")
    mail.agent("apply")


def test_a_site_that_is_wrong_touches_nothing(mail: Installed, shipped: str) -> None:
    mail.write(SITE, shipped.replace('"postgrey",', '"postgray",') + "[values.postfix]\nmessage_size_mb = 0\n")
    said = mail.agent("apply", status=3).stderr
    assert 'did you mean "postgrey"?' in said
    assert "message_size_mb" in said
    mail.write(SITE, shipped)


def test_the_journal_tells_what_was_done(mail: Installed) -> None:
    mail.sh("echo >> /etc/mailname")
    mail.agent("apply")
    runs = json.loads(mail.agent("log", "--json", "--limit", "1").stdout)["runs"]
    assert [(row["resource"], row["cause"]) for row in runs[0]["changes"]] == [("file:/etc/mailname", "drift")]


def test_after_a_power_cut_all_is_there(mail: Installed, ann: Owner) -> None:
    mail.tool("reboot", mail.name, "--hard")
    assert outcomes(mail, "--check") == {}
    assert bring(mail, "after-a-power-cut", ann.address)["code"] == 250
    arrived(mail, ann, "after-a-power-cut")


@pytest.fixture
def resident(mail: Installed) -> Iterator[Installed]:
    """The host, rebooted, with the resident agent in it, as the README ends."""
    mail.sh("systemctl enable --quiet --now state-agent")
    mail.tool("reboot", mail.name)
    yield mail
    mail.sh("systemctl disable --quiet --now state-agent")


def test_after_a_reboot_the_resident_agent_keeps_it_so(resident: Installed, ann: Owner) -> None:
    assert bring(resident, "after-a-reboot", ann.address)["code"] == 250
    arrived(resident, ann, "after-a-reboot")
    before = resident.read("/etc/postfix/main.cf")
    resident.sh("sed -i 's|^mynetworks.*|mynetworks = 0.0.0.0/0|' /etc/postfix/main.cf")
    journal = "journalctl --boot --no-pager --output=cat --unit=state-agent"
    resident.sh(f"until {journal} | grep -q 'refreshed service:postfix'; do sleep 0.1; done", timeout=60)
    assert resident.read("/etc/postfix/main.cf") == before
    said = resident.sh(journal)
    assert "Started state-agent.service - Keeps this host in its declared state." in said
    assert (
        "changed file:/etc/postfix/main.cf (drift)\nrefreshed service:postfix: reload (file:/etc/postfix/main.cf)"
        in said
    )
    assert not re.search("fail|error|traceback", said, re.IGNORECASE), said
    shown = resident.out("systemctl", "status", "--no-pager", "state-agent")
    assert "Active: active (running)" in shown
    assert re.search(r'Status: ".*\b\d+ in desired state; repairs: \d+"', shown), shown


def test_without_the_mount_nothing_starts_and_nothing_is_written(mail: Installed) -> None:
    mail.sh("systemctl stop postfix dovecot state-agent-seal opendkim")
    mail.sh("while grep -q '/srv/mail/' /proc/mounts; do sleep 0.1; done; umount /srv/mail", timeout=30)
    for unit in ("postfix", "dovecot"):
        assert mail.run("systemctl", "start", unit, status=None).returncode != 0
    assert mail.run("touch", "/srv/mail/x", status=None).returncode != 0
    mail.agent("apply")


class TestLeftOut:
    """States that are left out leave a server that works; each test leaves out more."""

    def without(self, mail: Installed, shipped: str, *states: str) -> None:
        """Apply the site without some states."""
        lines = shipped.splitlines(keepends=True)
        kept = "".join(line for line in lines if not any(line.strip().startswith(f'"{name}"') for name in states))
        mail.write(SITE, kept)
        mail.agent("apply")
        assert outcomes(mail, "--check") == {}
        assert mail.run("postfix", "check").stderr == ""

    def test_the_sealer(self, mail: Installed, shipped: str, ann: Owner) -> None:
        self.without(mail, shipped, "seal")
        assert bring(mail, "unsealed", ann.address)["code"] == 250
        assert b"unsealed" in arrived(mail, ann, "unsealed")[0]

    def test_the_encrypted_store(self, mail: Installed, shipped: str, ann: Owner) -> None:
        self.without(mail, shipped, "seal", "mailstore")
        assert bring(mail, "not-encrypted", ann.address)["code"] == 250
        arrived(mail, ann, "not-encrypted")
        assert "/var/spool/postfix" in mail.out("postconf", "-h", "queue_directory")
        mail.tool("reboot", mail.name)  # nothing mounts it any more, and nothing asks for it
        assert mail.run("mountpoint", "-q", "/srv/mail", status=None).returncode != 0
        assert mail.out("systemctl", "list-units", "--failed", "--no-legend") == ""
        assert outcomes(mail, "--check") == {}
        assert bring(mail, "not-encrypted-after-a-reboot", ann.address)["code"] == 250
        arrived(mail, ann, "not-encrypted-after-a-reboot")

    def test_all_but_postfix(self, mail: Installed) -> None:
        mail.sh("useradd --create-home carl")
        mail.write(SITE, f'[site]\nstates = ["mailname", "postfix"]\n[values]\ndomain = "{DOMAIN}"\n')
        mail.agent("apply")
        assert bring(mail, "to-a-user", f"carl@{DOMAIN}")["code"] == 250
        mail.sh("while ! grep -rq to-a-user /home/carl/Maildir/new; do sleep 0.1; done", timeout=30)
        assert "Connection refused" in mail.run("bash", "-c", ": < /dev/tcp/127.0.0.1/587", status=1).stderr
