"""`agent doctor` on a whole mail server: nothing to complain of, and what is broken is found, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from installed import Installed

pytestmark = pytest.mark.host

SITE = """
[site]
states = [
    "mailname", "mailstore", "certificate", "postgresql", "accounts", "dovecot", "seal", "postfix", "postgrey", "spf",
    "amavis", "spamassassin", "opendkim", "anonymise", "fail2ban", "firewall", "dns",
]
include = ["accounts.d/*.toml"]
[values]
domain = "example.net"
hostname = "mail.example.net"
[values.certificate]
provider = "selfsigned"
[values.postgrey]
delay = "2s"
[values.spamassassin]
network_tests = false
[values.fail2ban]
sshd = false
[values.dns]
ipv4 = "{address}"
"""
KEYS = """
mkdir -p -m 700 /opt/world; cd /opt/world; export GNUPGHOME=/opt/world
for name in ann bob; do
    gpg --batch --quiet --passphrase '' --quick-generate-key $name@example.net ed25519/cert cert 60d
    print=$(gpg --with-colons -k $name | awk -F: '$1 == "fpr" { print $10; exit }')
    gpg --batch --quiet --passphrase '' --quick-add-key $print cv25519 encr 60d
    gpg --armor --export $name > $name.asc
    echo "wrong horse for $name" | agent account add $name@example.net --key $name.asc --alias team@example.net \\
        --password-stdin --quiet
done
gpgconf --kill all
"""
HEAD = "$ORIGIN {zone}.\n$TTL 60\n@ IN SOA ns1.example.net. root 1 3600 600 86400 300\n@ IN NS ns1.example.net.\n"
ZONE = "zone:\n    name: {zone}\n    zonefile: /etc/nsd/{zone}\n"
REVERSE = "77.213.10.in-addr.arpa"
SERVER = 'server:\n    ip-address: 127.0.0.1\n    username: nsd\n    database: ""\n'
ANN = "ann@example.net"
GOOD = [
    *(
        "store",
        "store:queue",
        "store:mailboxes",
        "store:amavis",
        "store:beneath",
        "queue",
        "port:25",
        "relay",
        "port-25-auth",
    ),
    *("submission:587", "submission:465", "certificate:25", "certificate:465", "certificate:587", "certificate:993"),
    *("greylisting", "incoming:alias:team@example.net", f"sealed:alias:team@example.net:{ANN}", "spam-marked"),
    *("plaintext", "signed", "dkim-key", "jail:postfix", "jail:dovecot", "port-25-out", "dns:example.net MX"),
    *(f"{what}:{ANN}" for what in ("key", "incoming", "stored", "scanned", "sealed", "private", "imap", "mailbox")),
]
BREAK = """
postconf -e mynetworks=0.0.0.0/0
postfix reload 2>/dev/null
systemctl stop fail2ban
sed -i '/ MX /d' /etc/nsd/example.net; systemctl restart nsd
mkdir -p -m 700 /root/.gnupg; cp -a /opt/world/private-keys-v1.d /root/.gnupg/
"""
MEND = """
rm -r /srv/mail/mailboxes/ann@example.net/Maildir/cur/1.clear* /root/.gnupg
sed -i '/^@ IN NS/a @ IN MX 10 mail.example.net.' /etc/nsd/example.net; systemctl restart nsd
"""
PUT_IN_CLEAR = """
cd /srv/mail/mailboxes/ann@example.net/Maildir/cur
printf 'From: eve@example.net\\r\\nSubject: in clear\\r\\n\\r\\nas it came\\r\\n' > 1.clear:2,
chown vmail: 1.clear:2,
"""


@pytest.fixture(scope="module")
def mail(new_host: Callable[[str], Installed]) -> Installed:
    """A host with the whole mail server, accounts, and its zone in a nameserver."""
    host = new_host("doctor")
    host.install("gnupg", "nsd")
    host.write("/etc/state-agent/site.toml", SITE.format(address=host.address))
    host.sh(KEYS)
    host.outcomes()
    host.write("/etc/nsd/example.net", HEAD.format(zone="example.net") + f"ns1 A 127.0.0.1\n{host.agent('dns').stdout}")
    last = host.address.rpartition(".")[2]
    host.write(f"/etc/nsd/{REVERSE}", HEAD.format(zone=REVERSE) + f"{last} PTR mail.example.net.\n")
    zones = [ZONE.format(zone=zone) for zone in ("example.net", REVERSE)]
    host.write("/etc/nsd/nsd.conf", SERVER + "".join(zones))
    host.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    host.sh("sed -i 's/^10[.][0-9.]*/127.0.1.1/' /etc/hosts")  # its address is in DNS alone
    host.sh("systemctl restart nsd; systemctl restart postfix opendkim amavis")
    return host


def found(host: Installed, *words: str, status: int) -> dict[str, dict[str, Any]]:
    """What the mail test finds, by id without `mail:`."""
    done = host.agent("doctor", "mail", "--probe-domain", "example.net", *words, "--json", status=status)
    return {row["id"].removeprefix("mail:"): row for row in json.loads(done.stdout)["checks"]}


def bad(rows: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What failed or is warned of, with what is to be done; each has something."""
    wrong = {name: row["hint"] for name, row in rows.items() if row["outcome"] in ("failed", "warned")}
    assert all(wrong.values()), wrong
    wrong.pop("certificate")  # self-signed
    return wrong


def left_behind(host: Installed) -> str:
    """Test messages that are still there."""
    queued = host.out("postqueue", "-j")
    return queued + host.sh("grep -rl state-agent-doctor /srv/mail/mailboxes --include=*,S=* || true")


def test_nothing_to_complain_of(mail: Installed) -> None:
    rows = found(mail, status=0)
    assert bad(rows) == {}
    assert {name: rows[name]["outcome"] for name in GOOD} == dict.fromkeys(GOOD, "passed")
    assert rows[f"ptr:{mail.address}"]["passed"]
    assert rows[f"router:{mail.address}"]["passed"]
    assert left_behind(mail) == ""


def test_the_checks_and_the_mail_test_together(mail: Installed) -> None:
    said = mail.agent("doctor", "--probe-domain", "").stdout
    assert "pass mail:greylisting" in said
    assert "pass check:postgrey" in said
    assert "0 failed" in said
    assert "mail:" not in mail.agent("doctor", "--no-mail").stdout
    assert "mail:" not in mail.agent("doctor", "postgrey").stdout
    assert mail.agent("doctor", "mail", "--no-mail", status=3).stdout == ""
    secrets = mail.sh("cat /etc/state-agent/secrets/mailstore; cat /etc/state-agent/secrets/accounts/*").split()
    assert secrets
    assert not [secret for secret in secrets if secret in said]


def test_each_thing_that_is_broken_is_found_and_nothing_else(mail: Installed) -> None:
    mail.sh(BREAK + PUT_IN_CLEAR)
    wrong = bad(found(mail, status=1))
    broken = {"relay", "jail:postfix", "jail:dovecot", "dns:example.net MX", f"mailbox:{ANN}"}
    broken |= {f"private:{ANN}", "private:bob@example.net"}
    assert set(wrong) == broken | {"port-25-out"}, "which asks for the same MX"
    assert "10 mail.example.net" in wrong["dns:example.net MX"]
    assert "reject_unauth_destination" in wrong["relay"]
    mail.outcomes()
    mail.sh(MEND)


def test_mail_that_stops_on_its_way(mail: Installed) -> None:
    mail.sh("systemctl stop amavis")
    wrong = bad(found(mail, status=1))
    assert {name.partition(":")[0] for name in wrong} >= {"incoming"}
    assert "amavis" in wrong[f"incoming:{ANN}"]
    assert f"sealed:{ANN}" not in wrong
    assert left_behind(mail) == ""
    mail.sh("systemctl start amavis; systemctl stop state-agent-seal")
    assert "systemctl status state-agent-seal" in bad(found(mail, status=1))[f"incoming:{ANN}"]
    mail.sh("systemctl start state-agent-seal; postqueue -f")  # or Postfix would wait some minutes


def test_who_has_no_key_is_refused(mail: Installed) -> None:
    mail.sh("runuser -u gpgit -- gpg --batch --yes --homedir /var/opt/gpgit/.gnupg --delete-keys ann@example.net")
    rows = found(mail, status=1)
    assert set(bad(rows)) == {f"key:{ANN}"}
    assert f"agent account key {ANN} --key FILE; agent apply" in rows[f"key:{ANN}"]["hint"]
    assert rows[f"refused:{ANN}"]["passed"]
    assert rows["incoming:bob@example.net"]["passed"]
    mail.outcomes()


def test_a_message_is_removed_when_the_test_is_cut_off(mail: Installed) -> None:
    mail.sh(
        "agent doctor mail > /root/out 2>&1 & pid=$!\n"
        "until grep -rqs --include=*,S=* state-agent-doctor /srv/mail/mailboxes; do kill -0 $pid; sleep .05; done\n"
        "kill $pid; wait $pid && exit 9; grep aborted /root/out"
    )
    assert left_behind(mail) == ""


def test_a_scanner_that_is_to_look_for_nothing(mail: Installed) -> None:
    site = SITE.format(address=mail.address)
    without = site.replace(' "spamassassin",', "").replace("[values.spamassassin]\nnetwork_tests = false\n", "")
    mail.write("/etc/state-agent/site.toml", without)
    mail.outcomes()
    rows = found(mail, status=0)
    assert bad(rows) == {}
    assert rows[f"scanned:{ANN}"]["outcome"] == "skipped"
