"""`agent dns`: what a site declares of DNS, as a zone file that another program reads back."""

from __future__ import annotations

import subprocess

import dns.rdatatype
import dns.zone
from sitefolder import SiteFolder

LONG = "v=DKIM1; k=rsa; p=" + "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" * 12 + ' "quoted" back\\\\slash; grüße'
SITE = f"""
[dns_record."example.net MX"]
value = ["10 mail.example.net", "20 mx.example.org."]
[dns_record."mail.example.net A"]
value = "192.0.2.25"
ttl = "5m"
[dns_record."mail.example.net AAAA"]
value = "2001:db8::25"
[dns_record."example.net TXT"]
value = "v=spf1 mx ip4:192.0.2.25 -all"
[dns_record."old._domainkey.example.net TXT"]
value = '''{LONG}'''
[dns_record."s1._domainkey.example.net TXT"]
dkim_key = "HOST/s1.private"
[dns_record."_25._tcp.mail.example.net TLSA"]
tlsa_certificate = "HOST/none.pem"
[dns_record."_imaps._tcp.example.net SRV"]
value = "0 1 993 mail.example.net"
[dns_record."example.net CAA"]
value = '0 issue "letsencrypt.org"'
[dns_record."*.www.example.net CNAME"]
value = "mail.example.net"
[dns_record."gone.example.net A"]
ensure = "absent"
[dns_record."25.2.0.192.in-addr.arpa PTR"]
value = "mail.example.net"
"""


def test_the_zone(site: SiteFolder) -> None:
    site.write("site.toml", SITE)
    subprocess.run(["openssl", "genrsa", "-out", site.host / "s1.private", "2048"], check=True, capture_output=True)
    printed = site.run("dns")
    assert (printed.code, printed.err) == (0, "")
    lines = printed.out.splitlines()
    assert lines[:2] == ["$ORIGIN example.net.", "$TTL 3600"]
    assert "; 25.2.0.192.in-addr.arpa. IN PTR mail.example.net." in lines
    assert any(line.startswith("; 5.2.0.0.") and line.endswith(".ip6.arpa. IN PTR mail.example.net.") for line in lines)
    assert "; not to be there: gone.example.net A" in lines
    assert (
        f"; _25._tcp.mail.example.net TLSA: known after apply: the certificate {site.host}/none.pem is not there yet"
        in lines
    )
    soa = "@ IN SOA ns1 root 1 3600 600 86400 300\n@ IN NS ns1\nns1 IN A 192.0.2.53\n"
    zone = dns.zone.from_text(f"$ORIGIN example.net.\n$TTL 60\n{soa}{printed.out}", "example.net.", relativize=False)
    found = {(str(name), dns.rdatatype.to_text(each.rdtype)): each for name, each in zone.iterate_rdatasets()}
    assert {each.to_text() for each in found["example.net.", "MX"]} == {"10 mail.example.net.", "20 mx.example.org."}
    assert (found["mail.example.net.", "A"].ttl, found["mail.example.net.", "AAAA"].ttl) == (300, 3600)
    assert b"".join(found["old._domainkey.example.net.", "TXT"][0].strings).decode() == LONG
    assert max(map(len, found["old._domainkey.example.net.", "TXT"][0].strings)) == 255
    assert b"".join(found["s1._domainkey.example.net.", "TXT"][0].strings).startswith(
        b"v=DKIM1; h=sha256; k=rsa; p=MII"
    )
    assert found["_imaps._tcp.example.net.", "SRV"][0].to_text() == "0 1 993 mail.example.net."
    assert found["*.www.example.net.", "CNAME"][0].to_text() == "mail.example.net."
    assert ("gone.example.net.", "A") not in found

    as_json = site.run("dns", "--json").json
    assert (as_json["mode"], as_json["origin"]) == ("dns", "example.net")
    rows = {f"{row['name']} {row['type']}": row for row in as_json["records"]}
    assert rows["_25._tcp.mail.example.net TLSA"]["note"].startswith("known after apply")
    assert rows["mail.example.net A"]["lines"] == ["mail.example.net. 300 IN A 192.0.2.25"]
    assert (rows["example.net CAA"]["state"], rows["example.net CAA"]["source"]) == (None, "site.toml:19")


def test_a_mail_server_without_an_address_is_named(site: SiteFolder) -> None:
    def said(value: str, more: str = "") -> list[str]:
        site.write("site.toml", f'[dns_record."example.net MX"]\nvalue = {value}\n{more}')
        return [line for line in site.run("dns").out.splitlines() if "no A or AAAA" in line]

    servers = '["10 mail.example.net", "20 mx.example.org"]'
    assert said(servers) == [
        "; mail.example.net has no A or AAAA record here, and mail needs one: see ipv4 in `agent docs dns`"
    ]
    assert said(servers, '[dns_record."mail.example.net AAAA"]\nvalue = "2001:db8::25"\n') == []
    assert said('"0 ."') == [], "it takes no mail at all"


def test_names_of_no_common_zone(site: SiteFolder) -> None:
    site.write(
        "site.toml", '[dns_record."a.net A"]\nvalue = "192.0.2.1"\n[dns_record."b.net A"]\nvalue = "192.0.2.2"\n'
    )
    assert site.run("dns").out.splitlines() == [
        "$ORIGIN .",
        "$TTL 3600",
        "a.net. IN A 192.0.2.1",
        "b.net. IN A 192.0.2.2",
    ]


def test_who_cannot_be_asked(site: SiteFolder) -> None:
    site.write("site.toml", '[dns_record."a.net A"]\nvalue = "192.0.2.1"\nserver = "127.0.0.1:1"\n')
    checked = site.run("dns", "--check")
    assert checked.code == 1
    assert "unknown  a.net A: a.net A could not be asked" in checked.out
    (row,) = site.run("dns", "--check", "--json").json["records"]
    assert row["state"] == "unknown"


def test_a_site_without_records(site: SiteFolder) -> None:
    site.write("site.toml", "")
    for words in ([], ["--check"]):
        result = site.run("dns", *words)
        assert (result.code, "declares no DNS records" in result.out) == (0, True)
