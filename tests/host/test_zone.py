"""The printed zone in nsd, asked by programs not written here; and accounts, as Dovecot and a mount see them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from installed import Installed

pytestmark = pytest.mark.host

SITE = "/etc/state-agent/site.toml"
RECORDS = """
[directory."/etc/dkimkeys"]
mode = "0700"
[command.dkim-key]
run = ["opendkim-genkey", "-b", "2048", "-s", "s1", "-d", "example.net", "-D", "/etc/dkimkeys"]
creates = "/etc/dkimkeys/s1.private"
[certificate.mail]
provider = "selfsigned"
domains = ["mail.example.net"]
[dns_record."example.net MX"]
value = "10 mail.example.net"
[dns_record."mail.example.net A"]
value = "192.0.2.25"
[dns_record."example.net TXT"]
value = "v=spf1 mx -all"
[dns_record."s1._domainkey.example.net TXT"]
dkim_key = "/etc/dkimkeys/s1.private"
requires = ["command:dkim-key"]
[dns_record."_dmarc.example.net TXT"]
value = "v=DMARC1; p=none; rua=mailto:postmaster@example.net"
[dns_record."_25._tcp.mail.example.net TLSA"]
tlsa_certificate = "/etc/state-agent/certificates/mail/fullchain.pem"
requires = ["certificate:mail"]
"""
SOA = "$ORIGIN example.net.\n@ 60 IN SOA ns1 root 1 3600 600 86400 300\n@ 60 IN NS ns1\nns1 60 IN A 127.0.0.1\n"
NSD = """
server:
    ip-address: 127.0.0.1
    username: nsd
    database: ""
zone:
    name: example.net
    zonefile: /etc/nsd/example.net.zone
"""
ACCOUNTS = """
[site]
states = ["accounts", "dovecot", "mailstore"]
include = ["accounts.d/*.toml"]
[values]
domain = "example.net"
"""
STATE = """
[parameters.domain]
type = "hostname"
doc = "x"
[parameters.accounts]
type = "list"
default = []
doc = "x"
[file."/root/hashes"]
content = "{{ accounts | map(attribute='email') | join(' ') }}"
"""
PLACE = '[parameters.{}]\ntype = "path"\ndoc = "x"\ndefault = "{}"\n'


@pytest.fixture(scope="module")
def host(new_host: Callable[[str], Installed]) -> Iterator[Installed]:
    """A host with the judges."""
    host = new_host("zone")
    host.install("nsd", "opendkim-tools", "spfquery", "bind9-dnsutils", "dovecot-core", "gpg", "openssl")
    host.write(SITE, RECORDS)
    yield host


def test_what_is_not_there_yet(host: Installed) -> None:
    said = host.agent("dns").stdout
    assert "; s1._domainkey.example.net TXT: known after apply: the DKIM key /etc/dkimkeys/s1.private is not" in said
    assert host.agent("dns", "--check", status=None).returncode in (1, 2)


def test_the_zone_serves(host: Installed) -> None:
    outcomes = host.outcomes()
    assert outcomes["dns_record:s1._domainkey.example.net TXT"] in ("skipped", "unknown"), "none can be asked yet"
    host.write("/etc/nsd/example.net.zone", SOA + host.agent("dns").stdout)
    assert "zone example.net is ok" in host.out("nsd-checkzone", "example.net", "/etc/nsd/example.net.zone")
    host.write("/etc/nsd/nsd.conf", NSD)
    host.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    host.run("systemctl", "restart", "nsd")

    assert host.out("dig", "+short", "example.net", "MX") == "10 mail.example.net."
    host.write("/root/resolver", "Nameservers 127.0.0.1\n")  # libunbound goes to the root servers otherwise
    key = host.run(
        "opendkim-testkey",
        "-x",
        "/root/resolver",
        "-d",
        "example.net",
        "-s",
        "s1",
        "-k",
        "/etc/dkimkeys/s1.private",
        "-vvv",
    )
    assert "key OK" in key.stdout + key.stderr
    spf = ["spfquery", "-sender", "ann@example.net", "-helo", "mail.example.net", "-ip"]
    assert host.out(*spf, "192.0.2.25", status=2).splitlines()[0] == "pass"  # its exit status is the number of that
    assert host.out(*spf, "192.0.2.26", status=None).splitlines()[0] == "fail"
    digest = host.sh(
        "openssl x509 -in /etc/state-agent/certificates/mail/fullchain.pem -noout -pubkey "
        "| openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1"
    )
    said = host.out("dig", "+short", "_25._tcp.mail.example.net", "TLSA")
    assert said.replace(" ", "").lower() == f"311{digest}"

    checked = host.agent("dns", "--check")
    assert checked.stdout.splitlines()[-1] == "6 there"


def test_what_differs_in_dns(host: Installed) -> None:
    host.run("sed", "-i", "-e", "s/-all/~all/; /^_dmarc/d", "/etc/nsd/example.net.zone")
    host.run("systemctl", "restart", "nsd")
    checked = host.agent("dns", "--check", "--json", status=2)
    states = {f"{row['name']} {row['type']}": row["state"] for row in json.loads(checked.stdout)["records"]}
    other = {name: state for name, state in states.items() if state != "there"}
    assert other == {"example.net TXT": "differs", "_dmarc.example.net TXT": "missing"}
    text = host.agent("dns", "--check", status=2).stdout
    assert 'wanted: example.net. IN TXT "v=spf1 mx -all"' in text
    assert "found:  v=spf1 mx ~all" in text


def test_dovecot_takes_the_password(host: Installed) -> None:
    host.write(SITE, ACCOUNTS)
    for name, text in [
        ("accounts", STATE),
        ("dovecot", PLACE.format("mailboxes", "/srv/mail/mailboxes")),
        ("mailstore", PLACE.format("path", "/srv/mail")),
    ]:
        host.write(f"/etc/state-agent/states/{name}/state.toml", text)
    made = "gpg --batch --quiet --passphrase '' --quick-gen-key 'Ann <ann@example.net>' future-default default 2y"
    host.sh(f"{made}; gpg --armor --export ann@example.net > /root/ann.asc")
    add = ["account", "add", "ann@example.net", "--key", "/root/ann.asc", "--password-stdin"]
    host.run("agent", *add, stdin="correct horse\n")
    hash = host.read("/etc/state-agent/secrets/accounts/ann@example.net").strip()
    assert "(verified)" in host.out("doveadm", "pw", "-t", hash, "-p", "correct horse")
    assert host.run("doveadm", "pw", "-t", hash, "-p", "wrong horse", status=None).returncode
    listed = json.loads(host.agent("account", "list", "--json").stdout)["accounts"]
    assert [(row["email"], row["problem"]) for row in listed] == [("ann@example.net", None)]


def test_mail_is_deleted_on_the_mount_alone(host: Installed) -> None:
    remove = ["account", "remove", "ann@example.net", "--delete-mail", "--yes"]
    host.sh("mkdir -p /srv/mail/mailboxes/ann@example.net; touch /srv/mail/mailboxes/ann@example.net/bare")
    assert "not mounted" in host.agent(*remove, status=1).stderr
    host.sh("mount -t tmpfs none /srv/mail; mkdir -p /srv/mail/mailboxes/ann@example.net/cur")
    host.sh("touch /srv/mail/mailboxes/ann@example.net/cur/1")
    assert "1 files of mail were deleted" in host.agent(*remove).stdout
    host.run("test", "!", "-e", "/srv/mail/mailboxes/ann@example.net")
    host.run("umount", "/srv/mail")
    host.run("test", "-e", "/srv/mail/mailboxes/ann@example.net/bare")
