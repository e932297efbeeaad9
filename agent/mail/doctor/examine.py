"""All of the mail test, group by group; what goes wrong with one group is that group's finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agent.errors import AgentError
from agent.mail.doctor.finding import Finding, failed
from agent.mail.doctor.incoming import incoming
from agent.mail.doctor.keys import keys
from agent.mail.doctor.outgoing import outgoing, sent
from agent.mail.doctor.ports import greetings, no_passwords, relay, submission
from agent.mail.doctor.records import records, reverse, router, way_out
from agent.mail.doctor.site import MailHost
from agent.mail.doctor.standing import clock, jails, mailboxes, queue, store
from agent.mail.doctor.tls import certificate

Group = Callable[[MailHost], Iterator[Finding]]

_GROUPS: dict[str, tuple[Group, str]] = {
    "store": (store, "agent apply"),
    "key": (keys, "agent apply writes the recipients and the keyring"),
    "mailbox": (mailboxes, "systemctl status dovecot"),
    "queue": (queue, "systemctl status postfix"),
    "port": (greetings, "systemctl status postfix; journalctl -u postfix"),
    "relay": (relay, "systemctl status postfix; journalctl -u postfix"),
    "port-25-auth": (no_passwords, "systemctl status postfix; journalctl -u postfix"),
    "submission": (submission, "systemctl status postfix; journalctl -u postfix"),
    "certificate": (certificate, "agent apply certificate:mail"),
    "incoming": (incoming, "systemctl status postfix dovecot; journalctl SYSLOG_FACILITY=2 --since -10min"),
    "signed": (outgoing, "systemctl status opendkim postfix"),
    "sent": (sent, "systemctl status postfix"),
    "jail": (jails, "systemctl status fail2ban"),
    "clock": (clock, "timedatectl"),
    "dns": (records, "agent dns --check"),
    "ptr": (reverse, "agent dns --check"),
    "router": (router, "agent dns --check"),
    "port-25-out": (way_out, "look at the network of this host"),
}


def is_mail_host(states: set[str]) -> bool:
    """Whether a site with these states takes mail for accounts."""
    return states >= {"postfix", "dovecot", "accounts"}


def examine(mail: MailHost) -> Iterator[Finding]:
    """All findings, as they come."""
    for name, (group, hint) in _GROUPS.items():
        mail.say(name)
        try:
            yield from group(mail)
        except AgentError as error:
            yield failed(name, ": ".join(filter(None, [error.summary, error.detail])), error.hint or hint)
        except (OSError, ValueError) as error:
            yield failed(name, f"it could not be looked at: {_said(error)}", hint)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
