"""Mail from outside: put off at first, taken, scanned, sealed, stored, seen over IMAP."""

from __future__ import annotations

from collections.abc import Iterator

from agent.host.mounts import Mounts
from agent.host.probe import probe as ask
from agent.mail.doctor.cipher import sealed_to, who_can_decrypt
from agent.mail.doctor.finding import Finding, failed, passed, skipped, warned
from agent.mail.doctor.mailbox import field, over_imap
from agent.mail.doctor.places import inside
from agent.mail.doctor.probe import Probe, bring, follow, planned, remove
from agent.mail.doctor.services import culprit
from agent.mail.doctor.site import MailHost
from agent.mail.doctor.traces import LIMIT, UNSEARCHED, traces

_LOOK = "journalctl SYSLOG_FACILITY=2 --since -10min shows where it stopped; `agent doctor --no-mail` asks each service"


def incoming(mail: MailHost) -> Iterator[Finding]:
    """All findings about test messages from outside, which are removed again whatever happens."""
    if not mail.outside or 25 in mail.mute:
        yield skipped("incoming", f"no message can be sent as from outside: {mail.why_not_outside}")
        return
    probes = planned(mail)
    if not probes:
        yield skipped("incoming", "there is no account that could get mail")
        return
    found = []
    try:
        bring(mail, probes)
        early = traces(mail, [probe.marker for probe in probes if probe.taken])
        follow(mail, [probe for probe in probes if probe.taken])
        mail.say("looking at what arrived")
        found = [each for probe in probes for each in _about(mail, probe)]
        late = traces(mail, [probe.marker for probe in probes if probe.taken])
    finally:
        left = remove(mail, probes)
    yield from _greylisting(mail, probes)
    yield from found
    if mail.left_out:
        yield skipped("incoming:others", f"{mail.left_out} more accounts: one run tries {len(mail.able)} of them")
    yield _plaintext(mail, sorted({*early, *late}), any(probe.taken for probe in probes))
    if left:
        hint = "look at it; then: doveadm expunge -u ACCOUNT mailbox '*' FROM state-agent-doctor.invalid"
        yield warned("removed", "test messages could not be removed: " + "; ".join(left), hint)


def _greylisting(mail: MailHost, probes: list[Probe]) -> Iterator[Finding]:
    if not mail.has("postgrey"):
        return
    hint = "systemctl status postgrey; check_policy_service inet:127.0.0.1 must stand in smtpd_recipient_restrictions"
    name = "greylisting"
    if any(probe.answers and probe.answers[0].greylisted for probe in probes):
        yield passed(name, "a stranger was put off with 450, and let through when it came again")
    elif any(probe.answers and probe.answers[0].code == 250 for probe in probes):
        # Postgrey knows this host from a run before; a stranger's address out of nowhere it cannot know.
        said = ask(
            f"tcp://127.0.0.1:{mail.get('postgrey', 'port')}", banner="^action=", timeout=10, verify=False,
            send="request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.1\nclient_name=unknown\n"
            f"sender={probes[0].token}@doctor.invalid\nrecipient={probes[0].recipient}\n\n",
        )  # fmt: skip
        if "greylist" in said.lower():
            yield passed(name, "a stranger would be put off; this host came before and is let through")
        else:
            yield failed(name, f"a stranger is not put off: Postgrey says {said}", hint)
    else:
        yield skipped(name, "no message was taken")


def _about(mail: MailHost, probe: Probe) -> Iterator[Finding]:
    if probe.spam:
        yield _spam(probe)
        return
    name = f"incoming:{probe.label}"
    if not probe.arrived:
        yield _not_arrived(mail, name, probe)
        return
    yield passed(name, f"taken, and stored in the mailbox of {' and '.join(probe.accounts)}")
    if probe.recipient in probe.accounts:
        yield from _about_one(mail, probe, probe.recipient)
    elif mail.has("seal"):
        for account in probe.accounts:
            yield _sealed(mail, account, probe.contents[account], f"sealed:{probe.label}:{account}")


def _not_arrived(mail: MailHost, name: str, probe: Probe) -> Finding:
    hint = culprit(mail) or _LOOK
    if not probe.taken:
        said = probe.answers[-1] if probe.answers else "nothing"
        return failed(name, f"port 25 does not take mail for {probe.recipient}: {said}", hint)
    if "temporarily suspended" in probe.trouble and hint == _LOOK:
        hint = "what it waits for answers again, and Postfix tries in some minutes; at once with: postqueue -f"
    return failed(name, f"taken, but not delivered: {probe.trouble}", hint)


def _spam(probe: Probe) -> Finding:
    name = "spam-marked"
    account = probe.accounts[0]
    if account not in probe.contents:
        return skipped(name, "the message that every filter takes for spam did not arrive")
    flag = field(probe.contents[account], "X-Spam-Flag")
    if flag == "YES":
        return passed(name, "the message that every filter takes for spam was marked: X-Spam-Flag: YES")
    hint = "spamassassin --lint; is Amavis asked (content_filter in master.cf), and are spam checks on?"
    return failed(name, f"the message that every filter takes for spam has X-Spam-Flag: {flag or 'none'}", hint)


def _about_one(mail: MailHost, probe: Probe, account: str) -> Iterator[Finding]:
    content = probe.contents[account]
    if mail.has("mailstore"):
        yield _stored(probe.files[account], f"stored:{account}")
    if mail.has("amavis"):
        yield _scanned(mail, content, f"scanned:{account}")
    if mail.has("seal"):
        yield _sealed(mail, account, content, f"sealed:{account}")
        yield _private(mail, account, f"private:{account}")
    if over_imap(account, probe.message_id):
        yield passed(f"imap:{account}", "an IMAP session of the account sees it")
    else:
        yield failed(f"imap:{account}", "an IMAP session of the account does not find it", "journalctl -u dovecot")


def _stored(path: str, name: str) -> Finding:
    mount = inside(Mounts().all, path)
    if mount is not None and mount.type == "fuse.gocryptfs":
        return passed(name, f"it lies on the encrypted {mount.path}")
    return failed(name, f"{path} does not lie on the encrypted store", "agent apply; see dovecot.mailboxes")


def _scanned(mail: MailHost, content: bytes, name: str) -> Finding:
    if not mail.has("spamassassin") and not mail.get("amavis", "clamav"):
        return skipped(name, "Amavis is to look for nothing: neither spamassassin nor amavis.clamav is chosen")
    headers = ["X-Spam-Status"] if mail.has("spamassassin") else ["X-Spam-Status", "X-Virus-Scanned"]
    seen = [header for header in headers if field(content, header)]
    if seen:
        return passed(name, f"it bears {seen[0]}")
    hint = "content_filter of smtp in master.cf must name Amavis; amavisd test-config"
    return failed(name, f"it bears no {' or '.join(headers)}: nothing looked into it", hint)


def _sealed(mail: MailHost, account: str, content: bytes, name: str) -> Finding:
    if not (field(content, "Content-Type") or "").lower().startswith("multipart/encrypted"):
        hint = "virtual_transport must be the sealer; systemctl status state-agent-seal"
        return failed(name, "it was stored as it came, not encrypted", hint)
    key = mail.key(account)
    ids, wrong = sealed_to(content, key)
    if wrong:
        return failed(name, wrong, "the account's key must be the only one: agent apply; agent account list")
    return passed(name, f"encrypted to {', '.join(ids)} of {key.fingerprint}, its subject is hidden")


def _private(mail: MailHost, account: str, name: str) -> Finding:
    able = who_can_decrypt(mail.key(account))
    if able:
        hint = "a private key belongs on its owner's own device: move it there, and delete it here"
        return failed(name, f"the private key lies on this host: {', '.join(able)}", hint)
    return passed(name, "nobody on this host has the private key")


def _plaintext(mail: MailHost, places: list[str], sent: bool) -> Finding:
    if not sent:
        return skipped("plaintext", "no message was taken")
    if not mail.has("mailstore"):
        return skipped("plaintext", "the site has no mailstore: the queue lies in clear on the disk for a moment")
    if places == [UNSEARCHED]:
        hint = f"the search ends after {LIMIT:.0f} s; run it again when less is written to this disk"
        return warned("plaintext", "nothing of the messages was found in clear, but not all was looked at", hint)
    if places:
        hint = "what holds messages belongs on the encrypted store: see `agent docs mailstore`"
        return failed("plaintext", f"a test message can be read in {', '.join(places)}", hint)
    return passed(
        "plaintext", "nothing of the messages is in clear in the encrypted store's folder, the logs or the spools"
    )
