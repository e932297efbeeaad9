"""The shipped site on a fresh Debian 13: applied once, broken in many ways, and receiving mail all the while."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from installed import ROOT, Installed

pytestmark = pytest.mark.host

SITE = "/etc/state-agent/site.toml"
DOMAIN = "supersecure.example.net"
ANN = f"ann@{DOMAIN}"
FRIEND = "bob@friend.example"
WORLD = "10.213.77.1"
"""The address that the tests' own mail comes from."""

DNS = f"""
[Service]
ExecStart=dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --listen-address=127.0.0.1 \\
    --bind-interfaces --local=/#/ --host-record=mail.friend.example,{WORLD} \\
    --mx-host=friend.example,mail.friend.example "--txt-record=friend.example,v=spf1 ip4:{WORLD} -all" \\
    --mx-host=forged.example,mail.forged.example "--txt-record=forged.example,v=spf1 -all"
[Unit]
Before=postfix.service
[Install]
WantedBy=multi-user.target
"""

SEND = """
import json, smtplib, sys
address, helo, sender, recipient, text = sys.argv[1:]
with smtplib.SMTP(address, 25, helo, timeout=60) as server:
    said = {"ehlo": server.ehlo()[1].decode(), "vrfy": server.verify("ann")[0]}
    said["auth"] = server.docmd("AUTH", "PLAIN AGFubgBhbm4=")[0]
    said["code"], answer = server.mail(sender)
    if said["code"] == 250:
        said["code"], answer = server.rcpt(recipient)
    if said["code"] == 250:
        said["code"], answer = server.data(text)
    print(json.dumps(said | {"answer": answer.decode()}))
"""


def send(
    host: Installed, recipient: str = ANN, *, sender: str = FRIEND, text: str = "", helo: str = "mail.friend.example"
) -> dict[str, Any]:
    """Bring a message to the host's port 25 from outside; what the server answered last."""
    message = f"From: {sender}\r\nTo: {recipient}\r\nSubject: {text}\r\n\r\n{text}\r\n"
    said: dict[str, Any] = json.loads(host.python(SEND, host.address, helo, sender, recipient, message))
    return said


def send_until_taken(host: Installed, recipient: str = ANN, **more: Any) -> dict[str, Any]:
    """Come again until the greylist lets it through."""
    for _ in range(10):
        said = send(host, recipient, **more)
        if said["code"] != 450:
            break
        time.sleep(0.5)
    return said


def arrived(host: Installed, text: str) -> str:
    """The message in ann's mailbox that holds a text; fails where it does not come."""
    for _ in range(50):
        found = host.run("grep", "-lrF", text, "/home/ann/Maildir/new", status=None).stdout.split()
        if found:
            return host.read(found[0])
        time.sleep(0.2)
    raise AssertionError(f"no message with {text!r} arrived\n" + host.out("journalctl", "-n", "40", "-u", "postfix"))


@pytest.fixture(scope="module")
def shipped() -> str:
    """The site that ships, for a test that has less time."""
    text = (ROOT / "site.toml").read_text()
    assert 'delay = "30s"' in text
    return text.replace('delay = "30s"', 'delay = "1s"').replace("# root_mail_to", "root_mail_to")


@pytest.fixture(scope="module")
def mail(new_host: Callable[[str], Installed], shipped: str) -> Installed:
    """A host that the site was applied to."""
    host = new_host("mail")
    host.install("dnsmasq-base")
    host.write("/etc/systemd/system/world.service", DNS)
    host.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    host.sh("systemctl enable --now --quiet world; useradd --create-home ann")
    host.write(SITE, shipped)
    assert host.agent("apply", "--check", status=2).stdout.startswith("+ file:/etc/mailname")
    outcomes = host.outcomes()
    assert {outcomes[f"apt:{name}"] for name in ("postfix", "postgrey", "postfix-policyd-spf-python")} == {"added"}
    return host


@pytest.fixture(autouse=True)
def whole(mail: Installed) -> Iterator[None]:
    """Every test begins and ends with nothing to do."""
    yield
    left = mail.outcomes("--check", status=None)
    if left:
        mail.agent("apply", status=None)
    assert left == {}, "the test left something to do"


def test_a_second_run_finds_nothing(mail: Installed) -> None:
    assert mail.outcomes() == {}
    assert "nothing changed" in mail.agent("apply").stdout


def test_postfix_has_nothing_to_warn_of(mail: Installed) -> None:
    for command in (["postfix", "check"], ["postconf"], ["postconf", "-M"], ["newaliases"]):
        assert mail.run(*command).stderr == ""
    assert mail.run("postfix", "check").stdout == ""
    log = mail.out("journalctl", "--boot", "--output", "cat", "SYSLOG_FACILITY=2")  # mail
    assert "daemon started" in log
    assert [line for line in log.splitlines() if line.startswith(("warning:", "fatal:", "error:", "panic:"))] == []


def test_a_stranger_has_to_come_again(mail: Installed) -> None:
    first = send(mail, text="first-time")
    assert first["code"] == 450
    assert "Greylisted" in first["answer"]
    assert send_until_taken(mail, text="second-time")["code"] == 250
    message = arrived(mail, "second-time")
    assert "Received-SPF: Pass" in message
    assert f"Delivered-To: {ANN}" in message


def test_who_may_not_send_for_a_domain_is_refused(mail: Installed) -> None:
    said = send_until_taken(mail, sender="bob@forged.example", text="forged")
    assert (said["code"], "SPF" in said["answer"]) == (550, True), said


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"recipient": "someone@elsewhere.example"}, 554),
        ({"recipient": f"nobody-of-that-name@{DOMAIN}"}, 550),
        ({"sender": "bob@no-such-domain.example"}, 450),
        ({"sender": "bob"}, 504),
        ({"helo": "unqualified"}, 504),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else str(value),
)
def test_what_is_not_taken(mail: Installed, change: dict[str, str], code: int) -> None:
    said = send(mail, **change)
    assert said["code"] == code, said
    assert "Greylisted" not in said["answer"]


def test_nobody_logs_in_or_asks_for_users(mail: Installed) -> None:
    said = send(mail)
    assert "AUTH" not in said["ehlo"]
    assert f"SIZE {25 * 2**20}" in said["ehlo"]
    assert (said["auth"], said["vrfy"]) == (503, 502)


def test_the_host_itself_sends_and_aliases_hold(mail: Installed) -> None:
    mail.run("sendmail", "-f", "root", "postmaster", stdin="Subject: of-this-host\n\nx\n")
    assert f"From: root <root@{DOMAIN}>" in arrived(mail, "of-this-host")
    assert send_until_taken(mail, f"ann+shop@{DOMAIN}", text="with-extension")["code"] == 250
    arrived(mail, "with-extension")


MAIN, MASTER, ALIASES = "file:/etc/postfix/main.cf", "file:/etc/postfix/master.cf", "file:/etc/aliases"
POLICY, DEFAULTS = "file:/etc/postfix-policyd-spf-python/policyd-spf.conf", "file:/etc/default/postgrey"
START = "file:/etc/systemd/system/postfix.service.d/start.conf"
POSTFIX, POSTGREY = "service:postfix", "service:postgrey"
DAMAGE: dict[str, tuple[str, dict[str, str]]] = {
    "an edited file": (
        "sed -i 's|^mynetworks.*|mynetworks = 0.0.0.0/0|' /etc/postfix/main.cf; chmod 600 /etc/postfix/main.cf",
        {MAIN: "changed", POSTFIX: "refreshed"},
    ),
    "a deleted file": ("rm /etc/postfix/master.cf", {MASTER: "added", POSTFIX: "refreshed"}),
    "a wrong owner": ("chown ann:ann /etc/mailname", {"file:/etc/mailname": "changed"}),
    "other aliases": (
        "echo 'postmaster: /dev/null' > /etc/aliases; newaliases",
        {ALIASES: "changed", "command:newaliases": "refreshed"},
    ),
    "no table of aliases": ("rm /etc/aliases.db", {"command:aliases-table": "changed"}),
    "a lost unit drop-in": ("rm -r /etc/systemd/system/postfix.service.d; systemctl daemon-reload", {
        "directory:/etc/systemd/system/postfix.service.d": "added", START: "added", POSTFIX: "changed",
    }),
    "other options": ("sed -i s/delay=1/delay=60/ /etc/default/postgrey; systemctl restart postgrey", {
        DEFAULTS: "changed", POSTGREY: "refreshed",
    }),
    "options that kill": (
        "echo > /etc/default/postgrey; systemctl restart postgrey;"
        " for turn in $(seq 100); do systemctl -q is-active postgrey || break; sleep 0.1; done",
        {DEFAULTS: "changed", POSTGREY: "changed"},
    ),
    "a policy that only marks": ("sed -i /_reject/d /etc/postfix-policyd-spf-python/policyd-spf.conf", {
        POLICY: "changed", POSTFIX: "refreshed",
    }),
    "a stopped service": ("systemctl stop postgrey", {POSTGREY: "changed"}),
    "a service that would not start at boot": ("systemctl disable --quiet postfix", {POSTFIX: "changed"}),
    "a masked service": ("systemctl mask --now --quiet postgrey", {POSTGREY: "changed"}),
    "a killed daemon": (
        "kill -9 $(cat /var/spool/postfix/pid/master.pid); while systemctl -q is-active postfix; do sleep 0.1; done",
        {POSTFIX: "changed"},
    ),
    "a removed package": ("apt-get -q -y remove postgrey", {"apt:postgrey": "added"}),
    "a purged package": ("apt-get -q -y purge postfix-policyd-spf-python", {
        "apt:postfix-policyd-spf-python": "added", POLICY: "changed", POSTFIX: "refreshed",
    }),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_what_breaks_is_shown_and_repaired_and_nothing_else(mail: Installed, how: str) -> None:
    script, repaired = DAMAGE[how]
    mail.sh(script)
    planned = mail.outcomes("--check", status=2)
    assert planned.keys() - repaired.keys() <= {POSTGREY}, "at most a service that its package starts by itself"
    assert planned.keys() >= repaired.keys()
    assert mail.outcomes() == repaired
    assert send_until_taken(mail, text=f"after-{len(how)}")["code"] == 250


def test_a_purged_mail_server_comes_back(mail: Installed) -> None:
    mail.sh("apt-get -q -y purge postfix; rm -rf /etc/postfix /etc/aliases*")
    assert mail.outcomes()["apt:postfix"] == "added"
    mail.agent("doctor")
    assert send_until_taken(mail, text="to-the-new-server")["code"] == 250
    arrived(mail, "to-the-new-server")


def test_the_doctor_sees_a_server_that_is_down(mail: Installed) -> None:
    assert "0 failed" in mail.agent("doctor").stdout
    mail.run("systemctl", "stop", "postfix")
    said = mail.agent("doctor", "postfix", status=1).stdout
    assert "FAIL check:postfix-smtp" in said
    assert mail.outcomes() == {POSTFIX: "changed"}
    mail.agent("doctor")


def test_a_new_value_is_intent_and_restarts_where_it_must(mail: Installed, shipped: str) -> None:
    mail.write(
        SITE, shipped.replace('inet_protocols = "ipv4"', 'inet_protocols = "all"').replace("_mb = 25", "_mb = 7")
    )
    rows = json.loads(mail.agent("apply", "--json").stdout)["resources"]
    changed = {row["id"]: row["cause"] for row in rows if row["outcome"] != "in-desired-state"}
    assert changed.keys() == {MAIN, START, POSTFIX}
    assert (changed[MAIN], changed[START]) == ("intent", "intent")
    assert "[::]:25" in mail.out("ss", "-ltnH", "sport = :25")
    assert f"SIZE {7 * 2**20}" in send(mail)["ehlo"]
    mail.write(SITE, shipped)
    mail.agent("apply")
    assert "[::]:25" not in mail.out("ss", "-ltnH", "sport = :25")


def test_what_postfix_would_not_start_with_never_gets_there(mail: Installed) -> None:
    before = mail.read("/etc/postfix/main.cf")
    mail.sh("mkdir /etc/state-agent/states; cp -r /usr/share/state-agent/states/postfix /etc/state-agent/states/")
    mail.sh("echo 'this is no setting' >> /etc/state-agent/states/postfix/main.cf")
    done = mail.agent("apply", status=1)
    assert "this is no setting" in done.stdout
    assert mail.read("/etc/postfix/main.cf") == before
    assert send_until_taken(mail, text="still-there")["code"] == 250
    mail.sh("rm -r /etc/state-agent/states")
    mail.agent("apply")


def test_a_site_that_is_wrong_touches_nothing(mail: Installed, shipped: str) -> None:
    mail.write(
        SITE, shipped.replace('"postgrey",', '"postgray",').replace("message_size_mb = 25", "message_size_mb = 0")
    )
    said = mail.agent("apply", status=3).stderr
    assert 'did you mean "postgrey"?' in said
    assert "message_size_mb" in said
    mail.write(SITE, shipped)


def test_the_journal_tells_what_was_done(mail: Installed) -> None:
    mail.sh("echo >> /etc/mailname")
    mail.agent("apply")
    runs = json.loads(mail.agent("log", "--json", "--limit", "1").stdout)["runs"]
    assert [(row["resource"], row["cause"]) for row in runs[0]["changes"]] == [("file:/etc/mailname", "drift")]
    assert "/etc/mailname" in mail.agent("log", str(runs[0]["run"])).stdout


@pytest.mark.parametrize("how", [[], ["--hard"]], ids=["soft", "hard"])
def test_after_a_reboot_all_is_there(mail: Installed, how: list[str]) -> None:
    mail.tool("reboot", mail.name, *how)
    assert mail.outcomes("--check") == {}
    mail.agent("doctor")
    assert send_until_taken(mail, text=f"after-reboot-{len(how)}")["code"] == 250
    arrived(mail, f"after-reboot-{len(how)}")


def test_states_that_are_left_out_leave_a_server_that_works(mail: Installed, shipped: str) -> None:
    without = "".join(
        line for line in shipped.splitlines(keepends=True)
        if not line.strip().startswith(('"postgrey"', '"spf"', "[values.postgrey]", "delay"))
    )  # fmt: skip
    mail.write(SITE, without)
    assert mail.outcomes() == {MAIN: "changed", MASTER: "changed", POSTFIX: "refreshed"}
    assert mail.outcomes("--check") == {}
    mail.sh("systemctl stop postgrey")
    assert send(mail, sender="new@friend.example", text="at-once")["code"] == 250
    assert "Received-SPF" not in arrived(mail, "at-once")
    assert mail.run("postfix", "check").stderr == ""
    mail.agent("doctor")
    mail.write(SITE, shipped)
    assert mail.outcomes() == {MAIN: "changed", MASTER: "changed", POSTFIX: "refreshed", POSTGREY: "changed"}


def test_installing_again_changes_nothing_of_the_users(mail: Installed) -> None:
    assert mail.run("/opt/state-agent/packaging/install", "--minimal").stdout.startswith("installed agent ")
    assert mail.out("env", "PYTHONPATH=/opt", "PYTHONHOME=/nowhere", "--chdir=/opt/state-agent", "agent", "validate")
