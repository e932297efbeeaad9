"""The states around Postfix: what they ask of it, and how they look at one another."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.declaration.compile import compile_site
from agent.declaration.desired import Desired

STATES = Path(__file__).parents[2] / "states"
DOMAIN = "supersecure.example.net"
ALL = ["amavis", "spamassassin", "opendkim", "anonymise", "spf", "postgrey"]

Compile = Callable[..., Desired]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compile a site of some states and Postfix, with more values than the domain."""

    def compiled(*states: str, more: str = "") -> Desired:
        site = tmp_path / "site.toml"
        selected = list(dict.fromkeys(("mailname", "postfix", *states)))
        site.write_text(f"[site]\nstates = {selected}\n[values]\ndomain = '{DOMAIN}'\n{more}\n")
        return compile_site(site, STATES)[0]

    return compiled


def text(desired: Desired, path: str) -> str:
    """What a file will hold."""
    resource = next(entry.resource for entry in desired.entries if entry.id == f"file:{path}")
    return str(resource.rendered if resource.template else resource.content)


def service(master: str, name: str) -> str:
    """The lines of one service in master.cf."""
    found = re.search(rf"^{re.escape(name)} .*\n(?:    .*\n)*", master, re.MULTILINE)
    return found[0] if found else ""


def ids(desired: Desired) -> set[str]:
    return {entry.id for entry in desired.entries}


def test_without_them_postfix_knows_nothing_of_them(compiled: Compile) -> None:
    desired = compiled("dovecot", "certificate")
    configuration = text(desired, "/etc/postfix/main.cf") + text(desired, "/etc/postfix/master.cf")
    assert not [word for word in ("amavis", "milter", "subcleanup", "policy") if word in configuration]


def test_only_mail_from_outside_is_scanned_and_only_submitted_mail_anonymised(compiled: Compile) -> None:
    master = text(compiled(*ALL, "dovecot", "certificate"), "/etc/postfix/master.cf")
    assert "content_filter=amavis:[127.0.0.1]:10024" in service(master, "smtp       inet")
    assert "cleanup_service_name" not in service(master, "smtp       inet")
    for name in ("submission inet", "submissions inet"):
        assert "cleanup_service_name=subcleanup" in service(
            re.sub(" +", " ", master).replace("\n -o", "\n    -o"), name
        )
    assert master.count("content_filter=amavis") == 1


def test_what_comes_back_is_neither_scanned_nor_verified_again(compiled: Compile) -> None:
    back = service(text(compiled(*ALL), "/etc/postfix/master.cf"), "127.0.0.1:10025")
    assert "content_filter=\n" in back
    assert "no_milters" in back
    assert "smtpd_recipient_restrictions=permit_mynetworks,reject\n" in back


def test_a_message_is_unpacked_on_the_mailstore_where_there_is_one(compiled: Compile) -> None:
    path = "/etc/amavis/conf.d/60-state-agent"
    assert "$TEMPBASE = '/var/lib/amavis/tmp';" in text(compiled("amavis"), path)
    stored = compiled("amavis", "mailstore")
    assert "$TEMPBASE = '/srv/mail/amavis';" in text(stored, path)
    assert "directory:/srv/mail/amavis" in ids(stored)


def test_what_amavis_looks_for(compiled: Compile) -> None:
    path = "/etc/amavis/conf.d/60-state-agent"
    alone = text(compiled("amavis"), path)
    assert "@bypass_spam_checks_maps = (1);" in alone
    assert "@bypass_virus_checks_maps = (1);" in alone
    both = text(compiled("spamassassin", more="[values.amavis]\nclamav = true"), path)
    assert "@bypass_spam_checks_maps = (0);" in both
    assert "@bypass_virus_checks_maps = (0);" in both
    assert "$final_spam_destiny = D_PASS;" in both


def test_a_subject_s_mark_cannot_end_the_text_that_it_stands_in(compiled: Compile) -> None:
    more = '[values.spamassassin]\nsubject_tag = "it\'s \\\\ spam"\ndiscard_score = 20'
    conf = text(compiled("spamassassin", more=more), "/etc/amavis/conf.d/60-state-agent")
    assert r"$sa_spam_subject_tag = 'it\'s \\ spam ';" in conf
    assert "$final_spam_destiny = D_DISCARD;" in conf
    assert "$sa_kill_level_deflt = 20;" in conf


def test_another_selector_is_another_key_and_the_former_stays_in_dns(compiled: Compile) -> None:
    more = "[values.opendkim]\nselector = 'mail2027'\nformer_selectors = ['mail2026']"
    desired = compiled("opendkim", "dns", more=more)
    assert f"{DOMAIN}:mail2027:/etc/dkimkeys/mail2027.private" in text(desired, "/etc/opendkim/KeyTable")
    records = {id for id in ids(desired) if "_domainkey" in id}
    assert records == {f"dns_record:{selector}._domainkey.{DOMAIN} TXT" for selector in ("mail2026", "mail2027")}


@pytest.mark.parametrize(
    ("states", "more", "ports"),
    [
        ([], "", "25"),
        (["dovecot", "certificate"], "[values.certificate]\nprovider = 'selfsigned'", "25,465,587,993"),
        (["dovecot", "certificate"], "", "25,80,465,587,993"),
    ],
)
def test_the_firewall_opens_what_is_served(compiled: Compile, states: list[str], more: str, ports: str) -> None:
    desired = compiled("firewall", *states, more=more)
    rules = {entry.id: entry.resource.rules for entry in desired.entries if entry.resource.kind == "iptables"}
    assert rules["iptables:mail"] == [f"-p tcp -m multiport --dports {ports} -j ACCEPT"]
    assert rules["iptables:ssh"] == ["-p tcp -m multiport --dports 22 -j ACCEPT"]


def test_records_that_nothing_stands_behind_are_left_out(compiled: Compile) -> None:
    assert {id.removeprefix("dns_record:") for id in ids(compiled("dns")) if id.startswith("dns_record:")} == {
        f"{DOMAIN} MX",
        f"{DOMAIN} TXT",
        f"_dmarc.{DOMAIN} TXT",
        f"_smtp._tls.{DOMAIN} TXT",
    }
    addresses = "[values.dns]\nipv4 = '192.0.2.1'\nipv6 = '2001:db8::1'\ntlsa = true"
    more = f"[values.postfix]\nhostname = 'mx.example.org'\n{addresses}"
    desired = compiled("dns", "dovecot", "certificate", more=more)
    values = {entry.id: entry.resource.value for entry in desired.entries if entry.resource.kind == "dns_record"}
    assert values[f"dns_record:{DOMAIN} TXT"] == "v=spf1 mx ip4:192.0.2.1 ip6:2001:db8::1 -all"
    assert values["dns_record:mx.example.org TXT"] == "v=spf1 a -all"
    assert values["dns_record:mx.example.org CAA"] == ['0 issue "letsencrypt.org"']
    assert values[f"dns_record:_imaps._tcp.{DOMAIN} SRV"] == "0 1 993 mx.example.org"
    assert "dns_record:_25._tcp.mx.example.org TLSA" in values


def test_jails_are_of_what_is_there(compiled: Compile) -> None:
    path = "/etc/fail2ban/jail.d/state-agent.conf"
    assert "[dovecot]" not in text(compiled("fail2ban"), path)
    desired = compiled("fail2ban", "dovecot", "certificate", more="[values.fail2ban]\nsshd = false\nban_time = '2h'")
    assert {"[postfix]", "[dovecot]", "bantime = 7200"} <= set(text(desired, path).splitlines())
    assert "[sshd]\nenabled = false\n" in text(desired, path)
    assert "check:fail2ban-sshd" not in ids(desired)
