"""Mail that goes out: signed with the key that DNS has, and (where asked for) really sent."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from agent.errors import Unanswered
from agent.host.dns.data import Record
from agent.host.dns.keys import dkim_value
from agent.host.run import run
from agent.mail.doctor.finding import Finding, failed, passed, skipped, warned
from agent.mail.doctor.maillog import MailLog
from agent.mail.doctor.probe import Probe, follow, remove
from agent.mail.doctor.site import MailHost

_SIGNED = r"DKIM-Signature field added \(s=([^,\s]+), d=([^)\s]+)\)"
_WAIT = 120.0


def outgoing(mail: MailHost) -> Iterator[Finding]:
    """What OpenDKIM does to a message that is sent here, and whether the key that it signs with is the one in DNS."""
    if not mail.has("opendkim"):
        return
    if not mail.able:
        yield skipped("signed", "there is no account that could send a message to itself")
        return
    probe = Probe("signed", mail.able[0], [mail.able[0]])
    try:
        found = _sign(mail, probe)
        if found is not None:
            follow(mail, [probe])
    finally:
        remove(mail, [probe])
    hint = "systemctl status opendkim; journalctl -u opendkim; SigningTable and KeyTable in /etc/opendkim"
    if found is None:
        yield failed("signed", f"a message from {mail.domain} was not signed within {_WAIT:.0f} s", hint)
        return
    selector, domain = found
    if (selector, domain) != (mail.get("opendkim", "selector"), mail.domain):
        yield failed("signed", f"mail of {mail.domain} is signed as {domain}, selector {selector}", hint)
        return
    yield passed("signed", f"mail of {mail.domain} is signed, selector {selector}")
    yield _in_dns(mail, selector, domain)


def _sign(mail: MailHost, probe: Probe) -> tuple[str, str] | None:
    """Have sendmail take a message from the domain; selector and domain of the signature that it got."""
    mail.say("a message that is sent from here")
    probe.begun = True
    sender = f"postmaster@{mail.domain}"
    message = re.sub(rb"(?m)^From: .*$", f"From: state-agent doctor <{sender}>".encode(), probe.message(), count=1)
    run(["sendmail", "-f", sender, "--", probe.recipient], stdin=message, timeout=60)
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline:
        log = MailLog.since(mail.started)
        for queued in log.queue_ids(probe.message_id):
            found = log.about(queued, _SIGNED)
            if found:
                return found[1], found[2]
            if log.about(queued, r"removed$|milter-reject"):
                return None
        time.sleep(0.3)
    return None


def _in_dns(mail: MailHost, selector: str, domain: str) -> Finding:
    """Whether DNS has the public part of the key that signs."""
    name = f"{selector}._domainkey.{domain}"
    hint = f"put the record of {name} into DNS: agent dns shows it"
    own = public_part(dkim_value(mail.host, f"/etc/dkimkeys/{selector}.private"))
    try:
        found = mail.host.nameservers.find(Record(name, "TXT"))
    except Unanswered as error:
        return warned("dkim-key", f"whether receivers can verify it is not known: {error.summary}", hint)
    there = [public_part(value) for value in found.values] if found is not None else []
    if own in there:
        return passed("dkim-key", f"{name} has the key that signs: receivers can verify it")
    seen = "has another key than the one that signs" if there else "is not there"
    return failed("dkim-key", f"receivers cannot verify the signature: {name} {seen}", hint)


def public_part(record: str) -> str:
    """The key in a DKIM record (RFC 6376, section 3.6.1), without spaces; empty where it has none."""
    tags = dict(each.split("=", 1) for each in re.sub(r"\s", "", record).split(";") if "=" in each)
    return tags.get("p", "")


def sent(mail: MailHost) -> Iterator[Finding]:
    """What the world answers to a message that is really sent (`--send-to`)."""
    if not mail.send_to:
        return
    if not mail.able:
        yield skipped("sent", "there is no account that could send a message")
        return
    probe = Probe("sent", mail.send_to, [])
    text = probe.message().decode()
    text = re.sub(r"(?m)^From: .*$", f"From: {mail.able[0]}", text, count=1).replace(", and removes it again", "")
    run(["sendmail", "-f", mail.able[0], "--", mail.send_to], stdin=text, timeout=60)
    deadline = time.monotonic() + _WAIT
    mail.say(f"waiting for what the server of {mail.send_to} answers")
    while time.monotonic() < deadline:
        statuses = MailLog.since(mail.started).statuses(probe.message_id)
        if statuses:
            yield _answered(mail.send_to, statuses[-1].outcome, statuses[-1].said)
            return
        time.sleep(0.5)
    yield warned(
        "sent", f"a message to {mail.send_to} was not tried within {_WAIT:.0f} s", "postqueue -p; postqueue -f"
    )


def _answered(address: str, outcome: str, said: str) -> Finding:
    if outcome == "sent":
        hint = f"look into the mailbox of {address}: is it there, or among spam, and do SPF, DKIM and DMARC say pass?"
        return Finding("sent", "passed", f"the server of {address} took it: {said}", hint)
    if outcome == "deferred":
        return warned("sent", f"the server of {address} put it off: {said}", "it is tried again; postqueue -p shows it")
    return failed(
        "sent", f"the server of {address} refused it: {said}", "its answer says why; the account gets a bounce"
    )
