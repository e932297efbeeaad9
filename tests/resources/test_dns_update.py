"""DNS records kept by dynamic updates, against a real knot on loopback."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest

from agent.errors import ResourceError
from agent.host import Host
from agent.host.dns.data import Record
from agent.host.dns.nameservers import Nameservers
from agent.resource import Change, Resource, differences
from agent.resources.dns_record import DnsRecord
from agent.secret import SecretText

pytestmark = pytest.mark.inside

Converge = Callable[[Resource], Change | None]
PORT = 15353
AT = f"127.0.0.1:{PORT}"
SECRETS = {
    "right": "Q2FuYXJ5NTdPZlRzaWctLXJpZ2h0LW9uZS1vZi0zMmI=",
    "wrong": "Q2FuYXJ5NTdPZlRzaWctLXdyb25nLW9uZS1vZi0zMmI=",
}
CONFIG = """
server:
    listen: 127.0.0.1@{port}
    rundir: {folder}
database:
    storage: {folder}
key:
  - id: agent.
    algorithm: hmac-sha256
    secret: {secret}
  - id: stranger.
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: update
    key: agent.
    action: update
zone:
  - domain: example.net
    storage: {folder}
    file: example.net.zone
    acl: update
    zonefile-load: whole
    journal-content: none
    semantic-checks: off
  - domain: broken.example
    storage: {folder}
    file: not-there.zone
    acl: update
"""
ZONE = """$ORIGIN example.net.
$TTL 3600
@ SOA ns1 root 1 3600 600 86400 300
@ NS ns1
ns1 A 127.0.0.1
@ TXT "google-site-verification=1"
www CNAME ns1
*.alias CNAME ns1
*.many A 192.0.2.77
*.many TXT "v=any"
"""
LONG = "v=DKIM1; k=rsa; p=" + "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" * 12


@pytest.fixture(scope="session")
def knot() -> str:
    if shutil.which("knotd") is None:
        subprocess.run(["apt-get", "-q", "update"], check=True, capture_output=True)
        command = [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-yq",
            "--no-install-recommends",
            "install",
            "knot",
        ]
        subprocess.run(command, check=True, capture_output=True)
    return "knotd"


@pytest.fixture(autouse=True)
def server(knot: str, tmp_path: Path) -> Iterator[None]:
    folder = tmp_path / "knot"
    folder.mkdir()
    (folder / "knot.conf").write_text(CONFIG.format(port=PORT, folder=folder, secret=SECRETS["right"]))
    (folder / "example.net.zone").write_text(ZONE)
    process = subprocess.Popen([knot, "-c", str(folder / "knot.conf")], stdout=subprocess.DEVNULL)
    asked = Nameservers()
    for _ in range(100):
        try:
            if asked.find(Record("ns1.example.net", "A"), AT):
                break
        except ResourceError:
            asked = Nameservers()
            time.sleep(0.05)
    yield
    process.kill()
    process.wait()


def record(name: str, value: Any = None, **fields: Any) -> DnsRecord:
    given: dict[str, Any] = {"provider": "rfc2136", "server": AT, "key": key("agent.", "right")}
    return DnsRecord(name=name, value=value, **(given | fields))


def key(name: str, secret: str, **fields: str) -> dict[str, Any]:
    return {"name": name, "secret": SecretText(("", secret, "")).bound(SECRETS.__getitem__)} | fields


def there(name: str) -> tuple[str, ...]:
    found = Nameservers().find(Record(*name.split()), AT)
    return () if found is None else found.values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mail.example.net A", ["192.0.2.1", "192.0.2.2"]),
        ("mail.example.net AAAA", "2001:DB8::1"),
        ("example.net MX", ["10 Mail.example.net", "20 backup.example.org."]),
        ("k._domainkey.example.net TXT", LONG),
        ("imap.example.net CNAME", "mail.example.net"),
        ("_imaps._tcp.example.net SRV", "0 1 993 mail.example.net"),
        ("example.net CAA", '0 issue "letsencrypt.org"'),
        ("_25._tcp.mail.example.net TLSA", "3 1 1 " + "AB" * 32),
        ("7.example.net PTR", "mail.example.net"),
        ("sub.example.net NS", "ns1.example.org"),
        ("*.example.net TXT", 'a "quoted"; text\\'),
    ],
)
def test_every_type(converge: Converge, name: str, value: Any) -> None:
    assert converge(record(name, value)) is not None
    assert converge(record(name, value)) is None
    converge(record(name, ensure="absent"))
    assert there(name) == ()


def test_a_long_text_is_cut_into_strings(converge: Converge) -> None:
    converge(record("k._domainkey.example.net TXT", LONG))
    answer = dns.query.udp(dns.message.make_query("k._domainkey.example.net", "TXT"), "127.0.0.1", port=PORT)
    assert [len(string) for string in answer.answer[0][0].strings] == [255, len(LONG) - 255]
    assert there("k._domainkey.example.net TXT") == (LONG,)


def test_values_and_ttl_are_replaced(converge: Converge, host: Host) -> None:
    converge(record("mail.example.net A", ["192.0.2.1", "192.0.2.2"], ttl=300))
    change = converge(record("mail.example.net A", ["192.0.2.2", "192.0.2.3"], ttl="1h"))
    assert change is not None
    assert {each.attribute: each.actual for each in change.attributes} == {
        "value": ["192.0.2.1", "192.0.2.2"],
        "ttl": 300,
    }
    assert there("mail.example.net A") == ("192.0.2.2", "192.0.2.3")
    converge(record("mail.example.net A", "192.0.2.2"))
    found = Nameservers().find(Record("mail.example.net", "A"), AT)
    assert found is not None
    assert (found.values, found.ttl) == (("192.0.2.2",), 3600), "a time to live that is not declared stays"


def test_texts_of_others_stay(converge: Converge) -> None:
    other = "google-site-verification=1"
    converge(record("example.net TXT", "v=spf1 a -all"))
    converge(record("example.net TXT", "v=spf1 mx -all"))
    assert there("example.net TXT") == (other, "v=spf1 mx -all")
    converge(record("example.net TXT", "v=spf1 mx -all", ensure="absent"))
    assert there("example.net TXT") == (other,)
    converge(record("example.net TXT", "v=spf1 mx -all", exclusive=True))
    assert there("example.net TXT") == ("v=spf1 mx -all",)


def test_undo(converge: Converge, host: Host) -> None:
    before = record("mail.example.net A", "192.0.2.1", ttl=60)
    converge(before)
    state = before.read(host)
    changed = record("mail.example.net A", "192.0.2.9", ttl=90)
    converge(changed)
    changed.undo(host, state)
    assert there("mail.example.net A") == ("192.0.2.1",)
    changed.undo(host, None)
    assert there("mail.example.net A") == ()
    text = record("example.net TXT", "v=spf1 mx -all")
    converge(text)
    text.undo(host, None)
    assert there("example.net TXT") == ("google-site-verification=1",)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"key": key("agent.", "wrong")}, "secret is another one"),
        ({"key": key("unknown.", "right")}, "does not know the key"),
        ({"key": key("agent.", "right", algorithm="hmac-sha512")}, "does not know the key"),
        ({"key": key("stranger.", "right")}, "does not know the key"),
        ({"key": None}, "does not know the key|does not let"),
        ({"zone": "example.org"}, "not the primary|does not let"),
    ],
)
def test_updates_that_are_refused(host: Host, fields: dict[str, Any], said: str) -> None:
    resource = record("mail.example.net A", "192.0.2.1", **fields)
    change = differences(resource.read(host), resource.desired(host))
    assert change is not None
    with pytest.raises(ResourceError, match="refused the update") as caught:
        resource.apply(host, change)
    assert re.search(said, caught.value.hint), str(caught.value)
    assert not any(secret in str(caught.value) for secret in SECRETS.values())
    assert there("mail.example.net A") == ()


def test_a_zone_that_is_not_loaded(host: Host) -> None:
    with pytest.raises(ResourceError, match="SERVFAIL"):
        record("mail.broken.example A", "192.0.2.1").read(host)


def test_a_zone_of_others(host: Host) -> None:
    with pytest.raises(ResourceError, match=r"REFUSED|NOTAUTH"):
        record("mail.example.org A", "192.0.2.1").read(host)


def test_an_alias_is_in_the_way(host: Host) -> None:
    resource = record("www.example.net A", "192.0.2.1")
    change = differences(resource.read(host), resource.desired(host))
    assert change is not None
    with pytest.raises(ResourceError, match="an alias of ns1"):
        resource.apply(host, change)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("one.alias.example.net A", "192.0.2.1"),
        ("one.alias.example.net TXT", "v=one"),
        ("one.alias.example.net CNAME", "mail.example.net."),
        ("one.many.example.net A", "192.0.2.1"),
        ("one.many.example.net CNAME", "ns1.example.net."),
    ],
)
def test_a_wildcard_is_not_in_the_way(converge: Converge, name: str, value: str) -> None:
    assert converge(record(name, value)) is not None
    assert there(name) == (value,)
    assert there(name.replace("one", "two")) != there(name), "the wildcard stays"
    assert converge(record(name, value)) is None


def test_a_server_that_hangs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = record("mail.example.net A", "192.0.2.1")
    change = differences(resource.read(host), resource.desired(host))
    assert change is not None
    monkeypatch.setattr("agent.host.dns.update._PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 15354)):
        monkeypatch.setattr("agent.host.dns.update.address_of", lambda _text: ("127.0.0.1", 15354))
        with pytest.raises(ResourceError, match="no answer in time"):
            resource.apply(host, change)


def test_the_secret_is_nowhere(converge: Converge) -> None:
    resource = record("mail.example.net A", "192.0.2.1")
    assert SECRETS["right"] not in repr((converge(resource), resource, resource._key()))
