"""The services that a message passes through, and which of them does not answer."""

from __future__ import annotations

from agent.errors import ResourceError
from agent.host.probe import probe
from agent.mail.doctor.site import MailHost

_PATIENCE = 3.0
_UNITS = {"seal": "state-agent-seal"}


def services(mail: MailHost) -> dict[str, str]:
    """Where the selected states' services listen, by state, in the order in which a message comes to them."""
    queue = mail.get("postfix", "queue")
    found = {"seal": f"unix://{queue}/seal/policy.sock"} if mail.has("seal") else {}
    if mail.has("postgrey"):
        found["postgrey"] = f"tcp://127.0.0.1:{mail.get('postgrey', 'port')}"
    if mail.has("opendkim"):
        found["opendkim"] = f"unix://{queue}/opendkim/opendkim.sock"
    if mail.has("amavis"):
        found["amavis"] = f"tcp://127.0.0.1:{mail.get('amavis', 'port')}"
    return found | {"dovecot": "unix:///run/dovecot/lmtp"}


def culprit(mail: MailHost) -> str:
    """What to do about the first service that does not answer; nothing where all do."""
    for state, url in services(mail).items():
        try:
            probe(url, banner=None, timeout=_PATIENCE, verify=False)
        except ResourceError as error:
            unit = _UNITS.get(state, state)
            return f"{unit} does not answer ({error.summary}): systemctl status {unit}; journalctl -u {unit}"
    return ""
