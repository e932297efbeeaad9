"""DNS records: how values compare, and what is asked of nameservers; updates are in test_dns_update.py."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from agent.errors import KnownAfterApply, ResourceError, Unanswered
from agent.host import Host
from agent.host.dns import exchange as dnsexchange
from agent.host.dns import nameservers
from agent.host.dns.data import Record, normal
from agent.resource import differences
from agent.resources.dns_record import DnsRecord, nameserver, record_name, ttl_seconds
from agent.secret import SecretText

Agent = Callable[..., tuple[int, dict[str, Any]]]
LONG = "v=DKIM1; k=rsa; p=" + "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" * 12


class Server:
    """A nameserver on loopback that answers from a table; as a resolver it answers everything itself."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.rcode = dns.rcode.NOERROR
        self.silent = False
        self.asked: list[str] = []
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.port: int = self._udp.getsockname()[1]
        self._tcp = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, daemon=True).start()
        threading.Thread(target=self._serve_tcp, daemon=True).start()

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _serve(self) -> None:
        while True:
            try:
                wire, client = self._udp.recvfrom(4096)
            except OSError:
                return
            answer = self._answer(wire)
            if not self.silent:
                data = answer.to_wire(max_size=65535)
                if len(data) > 1232:
                    answer.answer.clear()
                    answer.flags |= dns.flags.TC
                    data = answer.to_wire()
                self._udp.sendto(data, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                client, _ = self._tcp.accept()
            except OSError:
                return
            with client:
                size = int.from_bytes(client.recv(2), "big")
                data = self._answer(client.recv(size)).to_wire(max_size=65535)
                client.sendall(len(data).to_bytes(2, "big") + data)

    def _answer(self, wire: bytes) -> dns.message.Message:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, type = question.name.to_text(True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {type}")
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        answer.set_rcode(self.rcode)
        for has in (type, "CNAME"):
            values = self.records.get((name, has))
            if values and not answer.answer:
                answer.answer.append(dns.rrset.from_text(question.name, 300, "IN", has, *values))
        if not answer.answer and not self.rcode and not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            sock.shutdown(socket.SHUT_RDWR) if sock is self._tcp else None
            sock.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def resolver(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server as the system's resolver and as the nameserver of example.net."""

    def resolver() -> dns.resolver.Resolver:
        made = dns.resolver.Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], server.port
        made.timeout, made.lifetime = 0.5, 1.0
        return made

    monkeypatch.setattr(nameservers, "system_resolver", resolver)
    monkeypatch.setattr(dnsexchange, "PORT", server.port)
    server.records |= {
        ("example.net", "SOA"): ["ns1.example.net. root.example.net. 1 3600 600 86400 300"],
        ("example.net", "NS"): ["ns1.example.net."],
        ("ns1.example.net", "A"): ["127.0.0.1"],
        (".", "SOA"): ["a. b. 1 1 1 1 1"],
        (".", "NS"): ["ns1.example.net."],
    }
    return server


def actual(host: Host, resource: DnsRecord) -> Any:
    """What differs; None where nothing does."""
    change = differences(resource.read(host), resource.desired(host))
    return None if change is None else (change.actual or {}).get("value")


@pytest.mark.parametrize(
    ("type", "one", "other"),
    [
        ("MX", "10 Mail.Example.NET.", "10 mail.example.net"),
        ("AAAA", "2001:0DB8::0:1", "2001:db8::1"),
        ("TXT", "v=spf1 mx -all", '"v=spf1 " "mx -all"'),
        ("TXT", LONG, " ".join(f'"{LONG[i : i + 200]}"' for i in range(0, len(LONG), 200))),
        ("CAA", "0 Issue letsencrypt.org", '0 issue "letsencrypt.org"'),
        ("TLSA", "3 1 1 " + "AB" * 32, "3 1 1 " + "ab " * 32),
        ("SRV", "0 1 993 Mail.example.net", "0 1 993 mail.example.net."),
        ("CNAME", "A.example.net", "a.example.net."),
        ("PTR", "A.example.net", "a.example.net."),
        ("NS", "A.example.net", "a.example.net."),
    ],
)
def test_spellings_of_a_value(type: str, one: str, other: str) -> None:
    assert normal(type, [one]) == normal(type, [other])


def test_texts() -> None:
    assert normal("TXT", ["a; b  c\\d"]) == ["a; b  c\\d"]
    assert normal("TXT", [""]) == [""]
    assert normal("TXT", ["grüße"]) == ["grüße"]
    assert normal("TXT", ["A"]) != normal("TXT", ["a"]), "the case of a text counts"
    assert Record("x.net", "TXT").line(LONG, None).count('"') == 4
    assert Record("x.net", "MX").line("10 m.x.net.", 60) == "x.net. 60 IN MX 10 m.x.net."


@pytest.mark.parametrize(
    ("type", "value"), [("A", "mail"), ("MX", "mail"), ("TLSA", "3 1 1 z"), ("A", "1.2.3.4 5"), ("TXT", '"a')]
)
def test_values_that_are_none(type: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"of a record of type {type}, such as"):
        normal(type, [value])


def test_names() -> None:
    assert record_name("_DMARC.Example.net.  txt") == "_dmarc.example.net TXT"
    assert record_name("*.example.net A") == "*.example.net A"
    for wrong in ("example.net", "example.net SPF", "a..b TXT", "-a.net A", "exämple.net A", "a b TXT"):
        with pytest.raises(ValueError, match="is not a"):
            record_name(wrong)
    assert (ttl_seconds("1h"), ttl_seconds(60)) == (3600, 60)
    for number in ("500ms", -1):
        with pytest.raises(ValueError, match="time to live"):
            ttl_seconds(number)
    for text in ("[::1]:5353", "::1", "192.0.2.1", "ns1.example.net:5353"):
        assert nameserver(text) == text
    for text in ("", "a:b", "a:0", "[]:1"):
        with pytest.raises(ValueError, match="not a nameserver"):
            nameserver(text)


def test_problems() -> None:
    def said(**fields: Any) -> str:
        return "\n".join(DnsRecord(**({"name": "example.net TXT", "value": "x"} | fields)).problems())

    assert said() == ""
    assert said(value=None) == "value is needed"
    assert "only one of value, dkim_key" in said(dkim_key="/k")
    assert said(dkim_key="/k", value=None) == ""
    assert said(dkim_key="/k", value=None, name="example.net A") == "dkim_key is of records of type TXT, not A"
    assert 'no meaning for ensure = "absent"' in said(dkim_key="/k", value=None, ensure="absent")
    assert "an alias" in said(name="example.net CNAME", value=["a", "b"])
    assert "value: " in said(name="example.net A")
    assert "only for rfc2136" in said(zone="example.net")
    assert "no meaning for manual" in said(on_removal="undo")
    secret = SecretText(("", "tsig", ""))
    assert said(provider="rfc2136", key={"name": "k", "secret": secret}) == ""
    assert "in clear" in said(provider="rfc2136", key={"name": "k", "secret": "c2VjcmV0"})
    assert "name and secret" in said(provider="rfc2136", key={"nam": "k"})
    assert "algorithm is one of" in said(provider="rfc2136", key={"name": "k", "secret": secret, "algorithm": "md5"})


def test_values_are_a_set(server: Server, host: Host) -> None:
    server.records["example.net", "MX"] = ["20 B.example.net.", "10 a.example.net."]
    fields: dict[str, Any] = {"name": "example.net MX", "server": server.at}
    assert actual(host, DnsRecord(**fields, value=["10 a.example.net", "20 b.example.net"])) is None
    differing = actual(host, DnsRecord(**fields, value="10 a.example.net"))
    assert differing == ["10 a.example.net.", "20 b.example.net."]
    assert server.asked == ["example.net MX"], "asked once in a run"


def test_what_is_not_there(server: Server, host: Host) -> None:
    server.records["example.net", "A"] = ["192.0.2.1"]
    for name in ("example.net AAAA", "other.example.net AAAA"):
        resource = DnsRecord(name=name, value="2001:db8::1", server=server.at)
        assert resource.read(host) is None
        assert DnsRecord(name=name, ensure="absent", server=server.at).read(host) is None
    gone = DnsRecord(name="example.net A", ensure="absent", server=server.at)
    change = differences(gone.read(host), gone.desired(host))
    assert change is not None
    assert gone.by_hand(change) == "remove example.net A"


def test_an_alias_is_no_address(server: Server, host: Host) -> None:
    server.records["mail.example.net", "CNAME"] = ["host.example.net."]
    resource = DnsRecord(name="mail.example.net A", value="192.0.2.1", server=server.at)
    assert actual(host, resource) == ["an alias of host.example.net."]


def test_texts_of_others_are_left_alone(server: Server, host: Host) -> None:
    server.records["example.net", "TXT"] = ['"google-site-verification=1"', '"v=spf1 " "mx -all"']
    fields: dict[str, Any] = {"name": "example.net TXT", "server": server.at}
    assert actual(host, DnsRecord(**fields, value="v=spf1 mx -all")) is None
    assert actual(host, DnsRecord(**fields, value="v=spf1 a -all")) == ["v=spf1 mx -all"]
    assert DnsRecord(**fields, value="other").read(host) is None
    both = ["google-site-verification=1", "v=spf1 mx -all"]
    assert actual(host, DnsRecord(**fields, value="v=spf1 mx -all", exclusive=True)) == both
    host.last_set = lambda _id: {"value": ["google-site-verification=1"]}
    assert actual(host, DnsRecord(**fields, value="v=spf1 mx -all")) == both, "declared here before"


def test_long_texts_come_by_tcp(server: Server, host: Host) -> None:
    values = [LONG + str(i) for i in range(5)]
    server.records["k._domainkey.example.net", "TXT"] = [
        Record("x", "TXT").line(v, None).split(" ", 3)[3] for v in values
    ]
    resource = DnsRecord(name="k._domainkey.example.net TXT", value=values, server=server.at)
    assert actual(host, resource) is None


def test_what_is_to_be_done_by_hand(server: Server, host: Host) -> None:
    server.records["example.net", "A"] = ["192.0.2.1"]
    resource = DnsRecord(name="_dmarc.example.net TXT", value="v=DMARC1; p=none", server=server.at, ttl=300)
    change = differences(resource.read(host), resource.desired(host))
    assert change is not None
    assert resource.by_hand(change) == "set _dmarc.example.net TXT"
    assert resource.preview(host, change) == ['_dmarc.example.net. 300 IN TXT "v=DMARC1; p=none"']
    other = DnsRecord(name="example.net A", value="192.0.2.2", server=server.at)
    change = differences(other.read(host), other.desired(host))
    assert change is not None
    assert other.by_hand(change) == "change example.net A"
    with pytest.raises(ResourceError, match="by hand"):
        other.apply(host, change)


@pytest.mark.parametrize("provider", ["manual", "rfc2136"])
@pytest.mark.parametrize(
    ("rcode", "said"), [(dns.rcode.SERVFAIL, "SERVFAIL"), (dns.rcode.REFUSED, "REFUSED"), (None, "no answer")]
)
def test_a_server_that_gives_no_answer(server: Server, host: Host, rcode: Any, said: str, provider: Any) -> None:
    server.rcode, server.silent = rcode or 0, rcode is None
    resource = DnsRecord(name="example.net A", value="192.0.2.1", server=server.at, provider=provider)
    with pytest.raises(ResourceError, match=said) as caught:
        resource.read(host)
    assert isinstance(caught.value, Unanswered) is (provider == "manual")
    asked = len(server.asked)
    assert asked <= 2
    with pytest.raises(ResourceError):
        DnsRecord(name="other.example.net A", value="192.0.2.1", server=server.at).read(host)
    assert rcode is not None or len(server.asked) == asked, "a silent server is not waited for twice"


def test_nobody_listens(host: Host) -> None:
    with pytest.raises(Unanswered, match=r"127\.0\.0\.1 port 1: .*refused"):
        DnsRecord(name="example.net A", value="192.0.2.1", server="127.0.0.1:1").read(host)
    with pytest.raises(Unanswered, match="has no address"):
        DnsRecord(name="example.net A", value="192.0.2.1", server="nowhere.invalid").read(host)


def test_the_nameservers_of_the_zone_are_asked(resolver: Server, host: Host) -> None:
    resolver.records["mail.example.net", "A"] = ["192.0.2.1"]
    assert actual(host, DnsRecord(name="mail.example.net A", value="192.0.2.1")) is None
    assert {"example.net NS", "ns1.example.net A"} <= set(resolver.asked)
    assert host.nameservers.primary("mail.example.net") == "ns1.example.net"


def test_the_resolver_answers_where_the_nameservers_do_not(
    resolver: Server, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnsexchange, "PORT", 1)
    resolver.records["mail.example.net", "A"] = ["192.0.2.1"]
    assert actual(host, DnsRecord(name="mail.example.net A", value="192.0.2.1")) is None
    assert DnsRecord(name="www.example.net A", value="192.0.2.1").read(host) is None


def test_no_resolver(resolver: Server, host: Host) -> None:
    resolver.silent = True
    started = time.monotonic()
    resources = [DnsRecord(name=f"a{i}.example.net A", value="192.0.2.1") for i in range(30)]
    DnsRecord.prefetch(host, resources)
    for resource in resources:
        with pytest.raises(Unanswered, match="could not be"):
            resource.read(host)
    assert time.monotonic() - started < 20, "they are asked at once: one by one takes a second each, or more"


def test_many_are_asked_at_once(server: Server, host: Host) -> None:
    resources = []
    for i in range(40):
        server.records[f"a{i}.example.net", "A"] = [f"192.0.2.{i}"]
        resources.append(DnsRecord(name=f"a{i}.example.net A", value=f"192.0.2.{i}", server=server.at))
    DnsRecord.prefetch(host, resources)
    server.silent = True
    assert [actual(host, resource) for resource in resources] == [None] * 40


def test_what_is_to_be_done_by_hand_fails_nothing(server: Server, agent: Agent, tmp_path: Path) -> None:
    server.records["example.net", "MX"] = ["10 other.example.net."]
    site = f"""
[dns_record."example.net MX"]
value = "10 mail.example.net"
server = "{server.at}"
[dns_record."unheard.example.net A"]
value = "192.0.2.1"
server = "127.0.0.1:1"
[file."{tmp_path}/after"]
content = "x"
requires = ["dns_record:example.net MX", "dns_record:unheard.example.net A"]
"""
    code, found = agent(site, "apply")
    assert (code, found["converged"], found[f"file:{tmp_path}/after"]["outcome"]) == (0, False, "added")
    row = found["dns_record:example.net MX"]
    assert (row["outcome"], row["note"]) == ("skipped", "to do by hand: change example.net MX")
    assert row["changes"] == [
        {"attribute": "value", "actual": ["10 other.example.net."], "desired": ["10 mail.example.net."]}
    ]
    assert row["preview"] == ["example.net. IN MX 10 mail.example.net."]
    row = found["dns_record:unheard.example.net A"]
    assert (row["outcome"], row["error"]) == ("unknown", None)
    assert "could not be asked" in row["note"]
    assert agent(site, "apply", "--check")[0] == 0, "there is nothing that the agent could change"
    server.records["example.net", "MX"] = ["10 mail.example.net."]
    assert agent(site, "apply")[1]["dns_record:example.net MX"]["outcome"] == "in-desired-state"


def test_it_is_declared_with_its_secret(agent: Agent, server: Server, tmp_path: Path) -> None:
    (tmp_path / "tsig").write_text("Q2FuYXJ5LTU3LW9mLVRTSUc=")
    site = f"""
[secrets.tsig]
file = "{tmp_path}/tsig"
[dns_record."_DMARC.example.net txt"]
value = "v=DMARC1; p=none"
ttl = "1h"
provider = "rfc2136"
server = "{server.at}"
key = {{ name = "agent", secret = "{{{{ secrets.tsig }}}}" }}
"""
    server.rcode = dns.rcode.SERVFAIL
    code, found = agent(site, "apply")
    assert (code, found["dns_record:_dmarc.example.net TXT"]["outcome"]) == (1, "failed")
    assert "SERVFAIL" in found["dns_record:_dmarc.example.net TXT"]["error"]
    server.rcode = dns.rcode.NOERROR
    assert agent(site, "apply", "--check")[0] == 2


def test_the_value_of_a_dkim_key(server: Server, host: Host, tmp_path: Path) -> None:
    key = tmp_path / "s1.private"
    resource = DnsRecord(name="s1._domainkey.example.net TXT", dkim_key=str(key), server=server.at)
    with pytest.raises(KnownAfterApply, match="not there yet"):
        resource.desired(host)
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", key, "2048"], check=True, capture_output=True)
    der = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True)
    public = base64.b64encode(der.stdout).decode()
    assert resource.values(host) == [f"v=DKIM1; h=sha256; k=rsa; p={public}"]
    server.records["s1._domainkey.example.net", "TXT"] = [
        f'"v=DKIM1; h=sha256; k=rsa; " "p={public[:200]}" "{public[200:]}"'
    ]
    assert actual(host, resource) is None
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", tmp_path / "public"], check=True)
    assert DnsRecord(name="x.net TXT", dkim_key=str(tmp_path / "public")).values(host) == resource.values(host)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", resource.values(host)[0])
    for content in ("", "x", "-----BEGIN PRIVATE KEY-----\nTUlJRXBB\n-----END PRIVATE KEY-----\n"):
        key.write_text(content)
        with pytest.raises(ResourceError, match="no readable key") as caught:
            resource.values(host)
        assert "TUlJRXBB" not in str(caught.value)


def test_the_value_of_a_certificate(host: Host, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "fullchain.pem"
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", "/CN=mail.example.net"]
    subprocess.run(["openssl", "req", "-x509", *made, "-out", certificate], check=True, capture_output=True)
    der = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True)
    (tmp_path / "live").symlink_to(certificate)
    for path in (certificate, tmp_path / "live"):
        resource = DnsRecord(name="_25._tcp.mail.example.net TLSA", tlsa_certificate=str(path))
        assert resource.values(host) == [f"3 1 1 {hashlib.sha256(der.stdout).hexdigest()}"]
    with pytest.raises(ResourceError, match="no readable certificate"):
        DnsRecord(name="_25._tcp.x.net TLSA", tlsa_certificate=str(key)).values(host)


def test_a_value_from_a_file_is_known_once_it_is_there(server: Server, agent: Agent, tmp_path: Path) -> None:
    site = f"""
[command.key]
run = ["openssl", "genrsa", "-out", "{tmp_path}/s1.private", "2048"]
creates = "{tmp_path}/s1.private"
[dns_record."s1._domainkey.example.net TXT"]
dkim_key = "{tmp_path}/s1.private"
server = "{server.at}"
requires = ["command:key"]
"""
    row = agent(site, "apply", "--check")[1]["dns_record:s1._domainkey.example.net TXT"]
    assert (row["outcome"], row["error"]) == ("unknown", None)
    assert "not there yet" in row["note"]
    code, found = agent(site, "apply")
    row = found["dns_record:s1._domainkey.example.net TXT"]
    assert (code, row["outcome"], row["note"]) == (0, "skipped", "to do by hand: set s1._domainkey.example.net TXT")
    assert '"v=DKIM1; h=sha256; k=rsa; p=MII' in row["preview"][0]
