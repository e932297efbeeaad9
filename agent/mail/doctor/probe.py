"""Test messages: brought to port 25 as by a stranger, followed to their mailboxes, and removed again."""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate

from agent.errors import AgentError
from agent.fields import seconds
from agent.host.run import run
from agent.mail.doctor.mailbox import expunge, stored
from agent.mail.doctor.maillog import MailLog
from agent.mail.doctor.site import MailHost
from agent.mail.doctor.talk import Answer, deliver

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""What every spam filter takes for spam (spamassassin.apache.org/gtube)."""
_FIRST, _EACH = 90.0, 15.0
"""Seconds to wait for delivery: for the first message, and for each further one."""
_LOOK, _ASK = 0.3, 3.0
_SETTLE = 20.0


@dataclass(slots=True)
class Probe:
    """One test message, and what became of it; `files` has the file where it arrived, by account."""

    label: str
    recipient: str
    accounts: list[str]
    spam: bool = False
    marker: str = field(default_factory=lambda: secrets.token_hex(16))
    token: str = field(default_factory=lambda: secrets.token_hex(12))
    answers: list[Answer] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    trouble: str = ""
    begun: bool = False

    @property
    def message_id(self) -> str:
        """What it is known by on its way; it is no secret."""
        return f"<{self.token}@state-agent-doctor.invalid>"

    @property
    def taken(self) -> bool:
        """Whether the server took it."""
        return bool(self.answers) and self.answers[-1].code == 250

    @property
    def arrived(self) -> bool:
        """Whether it is in every mailbox that it is for."""
        return all(account in self.files for account in self.accounts)

    def message(self) -> bytes:
        """The message; the marker is what must be found nowhere in clear."""
        made = EmailMessage()
        made["From"] = "state-agent doctor <doctor@state-agent-doctor.invalid>"
        made["To"] = self.recipient
        made["Date"] = formatdate()
        made["Message-ID"] = self.message_id
        made["Subject"] = f"A test of this mail server {self.marker}"
        made["Auto-Submitted"] = "auto-generated"
        text = f"state-agent doctor sent this message to test the mail server, and removes it again.\n\n{self.marker}\n"
        made.set_content(text + (f"\n{GTUBE}\n" if self.spam else ""))
        return made.as_bytes()


def planned(mail: MailHost) -> list[Probe]:
    """The messages of a run: to each account that can get mail, to one alias, and one that is spam."""
    able, recipients = mail.able, mail.recipients
    probes = [Probe(account, account, [account]) for account in able]
    if not able:
        return []
    aliases = {alias: recipients.accounts_of(alias) for alias in recipients.aliases}
    usable = {alias: to for alias, to in aliases.items() if to and set(to) <= set(able)}
    if usable:
        alias = max(usable, key=lambda each: len(usable[each]))
        probes.append(Probe(f"alias:{alias}", alias, usable[alias]))
    if mail.has("spamassassin") and not mail.get("spamassassin", "discard_score"):
        probes.append(Probe("spam", able[0], [able[0]], spam=True))
    return probes


def bring(mail: MailHost, probes: list[Probe]) -> None:
    """Bring all of them; who is greylisted comes again after the delay."""
    for probe in probes:
        mail.say(f"a message from outside to {probe.label}")
        _bring(mail, probe)
    again = [probe for probe in probes if probe.answers[-1].greylisted]
    if not again or not mail.has("postgrey"):
        return
    delay = seconds(str(mail.get("postgrey", "delay"))) + 1
    mail.say(f"waiting {delay:.0f} s, as the greylist wants it")
    time.sleep(delay)
    for probe in again:
        _bring(mail, probe)


def _bring(mail: MailHost, probe: Probe) -> None:
    probe.begun = True
    probe.answers.append(deliver(mail.outside, probe.recipient, probe.message()))


def follow(mail: MailHost, probes: list[Probe], limit: float = _FIRST) -> None:
    """Wait until each of these, which were taken, has arrived, or is seen not to."""
    deadline = time.monotonic() + limit + _EACH * len(probes)
    ask = time.monotonic() + _ASK
    waiting = probes
    while waiting and time.monotonic() < deadline:
        for probe in waiting:
            _look(mail, probe)
        waiting = [probe for probe in waiting if not probe.arrived]
        if waiting and time.monotonic() >= ask:
            log = MailLog.since(mail.started)
            for probe in waiting:
                probe.trouble = log.stuck(probe.message_id)
            waiting = [probe for probe in waiting if not probe.trouble]
            ask = time.monotonic() + _ASK
        if waiting:
            mail.say(f"{len(waiting)} of {len(probes)} test messages are on the way")
            time.sleep(_LOOK)
    for probe in waiting:
        probe.trouble = "it did not arrive in time, and nothing in the log says why"


def _look(mail: MailHost, probe: Probe) -> None:
    for account in probe.accounts:
        if account not in probe.files:
            path = stored(f"{mail.mailboxes}/{account}", probe.message_id, mail.started)
            if path is not None:
                with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                    probe.contents[account] = file.read(1 << 20)
                    probe.files[account] = path


def remove(mail: MailHost, probes: list[Probe]) -> list[str]:
    """Remove the messages from the queue and from all mailboxes; says what could not be removed."""
    mail.say("removing the test messages")
    begun = [probe for probe in probes if probe.begun]
    log = MailLog.since(mail.started)
    # What one program is just handing to the next comes into the queue again: it is let through first.
    moving = [probe for probe in begun if not probe.arrived and not probe.trouble and log.queue_ids(probe.message_id)]
    follow(mail, moving, _SETTLE)
    log = MailLog.since(mail.started)
    for queued in [each for probe in begun for each in log.queue_ids(probe.message_id)]:
        run(["postsuper", "-d", queued], timeout=30, accept=None)
    left: dict[str, str] = {}
    for account, probe in [(account, each) for each in begun for account in each.accounts]:
        try:
            expunge(account, probe.message_id)
        except AgentError as error:
            left[account] = f"{account}: {error.summary}"
    return list(left.values())
