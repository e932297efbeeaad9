"""What stands around Postfix: scanning, signatures, anonymised headers, bans, firewall and DNS records, on one host."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator

import pytest
from installed import Installed

pytestmark = pytest.mark.host

DOMAIN = "supersecure.example.net"
ANN = f"ann@{DOMAIN}"
FRIEND = "bob@friend.example"
WORLD = "10.213.77.1"
"""The address that the tests' own mail comes from."""

CORE = ["mailname", "certificate", "postfix", "postgresql", "accounts", "dovecot"]
FILTERS = ["postgrey", "spf", "amavis", "spamassassin", "opendkim", "anonymise", "fail2ban", "firewall", "dns"]
VALUES = """
[values]
domain = "{domain}"
[values.postfix]
hostname = "mail.{domain}"
[values.certificate]
provider = "selfsigned"
[[values.accounts]]
email = "ann@{domain}"
password = "{{PLAIN}}secret"
"""
FILTER_VALUES = """
[values.postgrey]
delay = "1s"
[values.opendkim]
nameservers = ["127.0.0.1"]
[values.dns]
ipv4 = "{address}"
"""

SOA = "$ORIGIN {zone}.\n@ 60 IN SOA ns.{zone}. root.{zone}. 1 3600 600 86400 60\n@ 60 IN NS ns\nns 60 IN A 127.0.0.1\n"
FRIENDS_ZONE = '@ IN MX 10 mail\nmail IN A 10.213.77.1\n@ IN TXT "v=spf1 ip4:10.213.77.1 -all"\n'

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""What every spam filter takes for spam."""

TALK = """
import base64, json, smtplib, ssl, sys
address, port, sender, recipient, login, text = sys.argv[1:]
careless = ssl._create_unverified_context()
kind = {"context": careless} if port == "465" else {}
connect = smtplib.SMTP_SSL if kind else smtplib.SMTP
with connect(address, int(port), "mail.friend.example", timeout=60, **kind) as server:
    if port == "587":
        server.starttls(context=careless)
    server.ehlo()
    if login:
        server.login(*login.split(" "))
    code, answer = server.mail(sender)
    if code == 250:
        code, answer = server.rcpt(recipient)
    if code == 250:
        code, answer = server.data(base64.b64decode(text))
    print(json.dumps([code, answer.decode()]))
"""
FAIL = """
import imaplib, smtplib, ssl, sys
address, service, plain = sys.argv[1:]
careless = ssl._create_unverified_context()
def imap():
    server = imaplib.IMAP4_SSL(address, 993, ssl_context=careless, timeout=60)
    server.xatom("AUTHENTICATE", "PLAIN", plain)
    server.logout()
def smtp():
    with smtplib.SMTP_SSL(address, 465, "mail.friend.example", timeout=60, context=careless) as server:
        server.docmd("EHLO", "x.example")
        server.docmd("AUTH", "PLAIN " + plain)
for _ in range(5):  # one after the other, as most do who guess: each is to be told that it was wrong
    globals()[service]()
"""
REACH = """
import json, socket, sys
def reached(port):
    try:
        socket.create_connection((sys.argv[1], port), 1.5).close()
    except OSError as error:
        return "refused" if isinstance(error, ConnectionRefusedError) else "nothing"
    return "open"
print(json.dumps({port: reached(int(port)) for port in sys.argv[2:]}))
"""


def site(host: Installed, *, filters: bool = True) -> None:
    """Write the site, with the filters or without."""
    states = CORE + (FILTERS if filters else [])
    values = VALUES.format(domain=DOMAIN) + (FILTER_VALUES.format(address=host.address) if filters else "")
    host.write("/etc/state-agent/site.toml", f"[site]\nstates = {json.dumps(states)}\n{values}")


def serve_zones(host: Installed) -> None:
    """Have nsd serve what `agent dns` says, the zone of a friend who signs, and the names of addresses."""
    host.sh("mkdir -p /root/friend; opendkim-genkey -b 2048 -s s1 -d friend.example -D /root/friend")
    backward = ".".join(reversed(host.address.split(".")))
    parent, name = backward.partition(".")[2] + ".in-addr.arpa", backward.partition(".")[0]
    zones = {
        DOMAIN: host.agent("dns").stdout,
        "friend.example": FRIENDS_ZONE + host.read("/root/friend/s1.txt"),
        parent: f"{name} IN PTR mail.{DOMAIN}.\n1 IN PTR mail.friend.example.\n",
    }
    conf = 'server:\n    ip-address: 127.0.0.1\n    username: nsd\n    database: ""\n'
    for zone, text in zones.items():
        host.write(f"/etc/nsd/{zone}.zone", SOA.format(zone=zone) + text)
        conf += f"zone:\n    name: {zone}\n    zonefile: /etc/nsd/{zone}.zone\n"
    host.write("/etc/nsd/nsd.conf", conf)
    host.run("systemctl", "restart", "nsd")


@pytest.fixture(scope="module")
def mail(new_host: Callable[[str], Installed]) -> Iterator[Installed]:
    """A host with the core and all filters, in a world that has DNS."""
    host = new_host("filters")
    host.install("nsd", "opendkim-tools", "python3-dkim")
    host.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    site(host)
    host.outcomes()
    serve_zones(host)
    yield host


def message(subject: str, body: str = "x", *headers: str) -> bytes:
    """A message of the friend's to ann."""
    lines = [f"From: {FRIEND}", f"To: {ANN}", f"Subject: {subject}", f"Message-ID: <{subject}@friend.example>",
             "Date: Sun, 22 Nov 2026 20:52:49 +0000", *headers, "", body, ""]  # fmt: skip
    return "\r\n".join(lines).encode()


def talk(host: Installed, text: bytes, *, port: int = 25, sender: str = FRIEND, login: str = "") -> tuple[int, str]:
    """Bring a message for ann from outside; what the server answered last. A greylist is waited for."""
    for _ in range(20):
        said = host.python(TALK, host.address, str(port), sender, ANN, login, base64.b64encode(text).decode())
        code, answer = json.loads(said)
        if "Greylisted" not in answer:
            break
        time.sleep(0.5)
    return code, answer


def reach(host: Installed, *ports: str) -> dict[str, str]:
    """By port, what a connection from outside meets."""
    reached: dict[str, str] = json.loads(host.python(REACH, host.address, *ports))
    return reached


def arrived(host: Installed, mark: str) -> str:
    """The message in ann's mailbox whose header or text holds a mark."""
    for _ in range(100):
        found = host.run("grep", "-lrF", mark, "/var/mail/mailboxes", status=None).stdout.split()
        if found:
            return host.read(found[0])
        time.sleep(0.2)
    raise AssertionError(f"no message with {mark!r} arrived\n" + host.out("journalctl", "-n", "40", "-u", "postfix"))


def test_a_second_run_finds_nothing_and_dns_is_right(mail: Installed) -> None:
    assert mail.outcomes("--check") == {}
    assert mail.outcomes() == {}
    assert mail.agent("dns", "--check").stdout.splitlines()[-1] == "10 there"
    assert " 0 failed" in mail.agent("doctor", *CORE, *FILTERS).stdout


def test_no_program_has_anything_to_say_about_its_configuration(mail: Installed) -> None:
    for command in ("postfix check", "opendkim -n", "amavisd test-config", "spamassassin --lint"):
        done = mail.run(*command.split())
        assert (done.stdout, done.stderr) == ("", ""), command
    assert mail.run("postconf").stderr + mail.run("postconf", "-M").stderr == ""
    said = mail.run("fail2ban-client", "--test")
    assert said.stdout + said.stderr == "OK: configuration test is successful\n"
    log = mail.read("/var/log/fail2ban.log").replace("WARNING New database created", "")
    assert "Jail 'dovecot' started" in log
    assert not [word for word in ("WARNING", "ERROR", "CRITICAL") if word in log]


def test_spam_is_marked_and_nothing_of_it_stays_behind(mail: Installed) -> None:
    assert talk(mail, message("gtube-1", GTUBE))[0] == 250
    spam = arrived(mail, "gtube-1@")
    assert "Subject: *****SPAM***** gtube-1\n" in spam
    assert "X-Spam-Flag: YES\n" in spam
    assert mail.sh("ls -A /var/lib/amavis/tmp /var/lib/amavis/virusmails") == (
        "/var/lib/amavis/tmp:\n\n/var/lib/amavis/virusmails:"
    )
    log = mail.out("journalctl", "--boot", "-o", "cat")
    assert "Passed SPAM" in log
    assert "SPAM***** gtube-1" not in log
    assert "GTUBE-STANDARD" not in log


def test_signatures_of_others_are_verified_and_nobody_vouches_for_himself(mail: Installed) -> None:
    forged = f"Authentication-Results: mail.{DOMAIN}; dkim=pass header.d=bank"
    of_others = "Authentication-Results: x.example; dkim=pass header.d=kept"
    mail.write("/root/plain.eml", message("signed-1", "hello", forged, of_others).decode())
    signed = mail.sh("dkimsign s1 friend.example /root/friend/s1.private < /root/plain.eml").replace("\r\n", "\n")
    genuine = signed.replace("\n", "\r\n").encode() + b"\r\n"
    assert talk(mail, genuine)[0] == 250
    assert talk(mail, genuine.replace(b"hello", b"hullo").replace(b"signed-1@", b"signed-2@"))[0] == 250
    for mark, verdict in ("signed-1@", "pass"), ("signed-2@", "fail"):
        text = arrived(mail, mark)
        assert f"Authentication-Results: mail.{DOMAIN};\n\tdkim={verdict} " in text
        assert "header.d=bank" not in text
        assert "header.d=kept" in text
        assert "Received-SPF: Pass" in text
        assert "X-Spam-Flag: NO\n" in text
        assert "ALL_TRUSTED" not in text


def test_what_is_submitted_is_anonymous_and_signed_as_it_leaves(mail: Installed) -> None:
    attached = "User-Agent: of-the-attached\nReceived: from attached.example\n\nx\n"
    for port in (587, 465):
        text = (
            f"From: {ANN}\nTo: {ANN}\nSubject: submitted\nMessage-ID: <sub-{port}@{DOMAIN}>\n"
            "Date: Sun, 22 Nov 2026 20:52:49 +0000\nUser-Agent: telltale\nX-Mailer: telltale\nX-Enigmail: telltale\n"
            "X-Enigmail-Version: telltale\nX-Originating-IP: [192.0.2.77]\n"
            "Received: from telltale ([192.0.2.77]) by x; Sun, 22 Nov 2026 20:52:49 +0000\n"
            f"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n{attached}--b--\n"
        )
        code, answer = talk(mail, text.replace("\n", "\r\n").encode(), port=port, sender=ANN, login=f"{ANN} secret")
        assert code == 250, answer
        came = arrived(mail, f"sub-{port}@")
        head = came.partition("\n\n")[0]
        assert not [word for word in ("telltale", WORLD, "mail.friend.example", "192.0.2.77") if word in head]
        assert f"Received: by mail.{DOMAIN} (Postfix) id " in head
        assert attached in came
        assert head.count("DKIM-Signature:") == 1
        assert f"d={DOMAIN}; s=mail2026;" in head
        assert "X-Spam" not in head
        signed = came[came.index("DKIM-Signature:") :]
        assert mail.run("dkimverify", stdin=signed).stdout == "signature ok\n"
        assert mail.run("opendkim-testmsg", stdin=signed).stderr == ""


def test_mail_of_the_host_itself_is_signed(mail: Installed) -> None:
    mail.run("sendmail", "-f", ANN, ANN, stdin=f"From: {ANN}\nSubject: of-this-host\n\nx\n")
    came = arrived(mail, "of-this-host")
    assert mail.run("dkimverify", stdin=came[came.index("DKIM-Signature:") :]).stdout == "signature ok\n"


def test_nothing_passes_while_a_filter_is_down(mail: Installed) -> None:
    mail.sh("systemctl stop amavis opendkim")
    code, answer = talk(mail, message("unverified"))
    assert code == 451, answer
    assert mail.outcomes("service:opendkim") == {"service:opendkim": "changed"}
    assert talk(mail, message("unscanned-1"))[0] == 250
    mail.sh("until postqueue -j | grep -q 'Connection refused'; do sleep 0.1; done")
    assert mail.run("grep", "-rqF", "unscanned-1", "/var/mail/mailboxes", status=1)
    assert mail.outcomes() == {"service:amavis": "changed"}
    mail.run("postqueue", "-f")
    assert "X-Spam-Flag: NO" in arrived(mail, "unscanned-1@")


@pytest.mark.parametrize(("service", "jail", "port"), [("smtp", "postfix", "465"), ("imap", "dovecot", "993")])
def test_five_failed_logins_are_enough(mail: Installed, service: str, jail: str, port: str) -> None:
    # A name that looks like a piece of the log is to get nobody else banned.
    name = "x>, method=PLAIN, rip=192.0.2.9, lip=192.0.2.8, TLS, session=<x"
    try:
        mail.python(FAIL, mail.address, service, base64.b64encode(f"\0{name}\0wrong".encode()).decode())
        banned = f"fail2ban-client get {jail} banip"
        mail.sh(f"for turn in $(seq 100); do {banned} | grep -q . && break; sleep 0.1; done")
        assert mail.out(*banned.split()) == WORLD, mail.out("journalctl", "-n", "20", "-u", "dovecot", "-u", "postfix")
        assert reach(mail, port) == {port: "refused"}
        assert mail.outcomes("--check") == {}, "a ban is no drift"
    finally:
        mail.run("fail2ban-client", "unban", WORLD)
    assert reach(mail, port) == {port: "open"}


def test_the_firewall_lets_in_what_is_served_and_no_more(mail: Installed) -> None:
    mail.sh("systemd-run --quiet python3 -m http.server 8080; until ss -ltn | grep -q :8080; do sleep 0.1; done")
    assert reach(mail, "25", "465", "587", "993", "8080", "22") == {
        "25": "open", "465": "open", "587": "open", "993": "open", "8080": "nothing", "22": "refused",
    }  # fmt: skip
    six = mail.out("ip6tables", "-S")
    assert "-P INPUT DROP" in six
    assert "--dports 25,465,587,993 -j ACCEPT" in six
    assert "--icmpv6-type 135 -m hl --hl-eq 255 " in six


STOPPED = ("amavis", "opendkim", "fail2ban", "postgrey", "spamassassin-maintenance.timer")
EDITED = {
    "/etc/amavis/conf.d/60-state-agent": "amavis",
    "/etc/spamassassin/local.cf": "amavis",
    "/etc/opendkim/SigningTable": "opendkim",
    "/etc/opendkim.conf": "opendkim",
    "/etc/fail2ban/jail.d/state-agent.conf": "fail2ban",
    "/etc/fail2ban/filter.d/dovecot.local": "fail2ban",
    "/etc/postfix/submission_header_checks": "postfix",
}
"""Files, and the service that is told when they were put right."""


def test_what_died_comes_back(mail: Installed) -> None:
    mail.sh(f"systemctl disable --now --quiet {' '.join(STOPPED)}")
    mail.sh("iptables -P INPUT ACCEPT; iptables -D state-agent-INPUT $(iptables -S state-agent-INPUT | grep -c ^-A)")
    wanted = {f"service:{name}" for name in STOPPED} | {"iptables:base", "iptables:mail"}
    assert mail.outcomes("--check", status=2).keys() == wanted
    assert mail.outcomes().keys() == wanted
    assert mail.outcomes("--check") == {}


def test_what_was_edited_is_put_right_and_read(mail: Installed) -> None:
    mail.sh(f"for file in {' '.join(EDITED)}; do sed -i '1a # not ours' $file; done")
    mail.sh("chmod 755 /etc/dkimkeys; chown root /var/spool/postfix/opendkim")
    folders = {"directory:/etc/dkimkeys": "changed", "directory:/var/spool/postfix/opendkim": "changed"}
    files = {f"file:{path}": "changed" for path in EDITED}
    told = {f"service:{name}": "refreshed" for name in EDITED.values()}
    assert mail.outcomes() == files | told | folders
    assert mail.outcomes("--check") == {}
    assert talk(mail, message("after-repair"))[0] == 250
    arrived(mail, "after-repair@")


def test_a_lost_key_is_made_anew_and_dns_told(mail: Installed) -> None:
    mail.sh("rm /etc/dkimkeys/*; systemctl restart opendkim")
    outcomes = mail.outcomes()
    assert outcomes["command:opendkim-key"] == "changed"
    assert f"dns_record:mail2026._domainkey.{DOMAIN} TXT" in outcomes
    assert mail.sh("stat -c '%a %U' /etc/dkimkeys/mail2026.private") == "600 opendkim"
    serve_zones(mail)
    mail.run("systemctl", "restart", "opendkim")
    assert mail.outcomes("--check") == {}


def test_after_a_reboot_all_is_there(mail: Installed) -> None:
    mail.tool("reboot", mail.name)
    assert mail.outcomes("--check") == {}
    assert reach(mail, "8080", "25") == {"8080": "nothing", "25": "open"}
    assert talk(mail, message("after-reboot"))[0] == 250
    arrived(mail, "after-reboot@")


def test_left_out_they_leave_a_server_that_works(mail: Installed) -> None:
    site(mail, filters=False)
    mail.outcomes()
    mail.sh("systemctl stop postgrey amavis opendkim")
    assert mail.outcomes("--check") == {}
    assert mail.run("postfix", "check").stderr == ""
    assert talk(mail, message("unfiltered", "x"), sender="new@friend.example")[0] == 250
    came = arrived(mail, "unfiltered@")
    assert not [name for name in ("X-Spam", "Received-SPF", "Authentication-Results") if name in came]
