"""The accounts' keys: usable, and for how long; and what is said to mail for who has none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import inf

from agent.errors import ResourceError
from agent.host.openpgp.keys import day
from agent.host.probe import probe
from agent.mail.doctor.finding import Finding, failed, passed, skipped, warned
from agent.mail.doctor.site import MailHost

_DAY = 86400
_URGENT, _SOON = 7, 30
_REFUSED = r"^action=(4\d\d|5\d\d|REJECT|DEFER)\b"


def keys(mail: MailHost) -> Iterator[Finding]:
    """The key of each account; of who has none that can be used, also whether mail is refused."""
    if not mail.has("seal"):
        yield skipped("key", "the site has no sealer")
        return
    if not mail.recipients.accounts:
        yield warned("key", "the site has no accounts", "agent account add NAME@DOMAIN --key FILE")
    for account in mail.recipients.accounts:
        wrong = mail.key_problem(account)
        if not wrong:
            yield _expiry(account, mail.keys.until(account))
            continue
        hint = f"{account} gets no mail until there is a new key: agent account key {account} --key FILE; agent apply"
        yield failed(f"key:{account}", wrong, hint)
        yield _refused(mail, account)


def _expiry(account: str, until: float) -> Finding:
    name = f"key:{account}"
    if until == inf:
        return passed(name, "usable, never expires")
    left = int((until - time.time()) // _DAY)
    seen = f"usable until {day(until)}"
    if left >= _SOON:
        return passed(name, seen)
    urgent = "at once: " if left < _URGENT else ""
    hint = f"{urgent}its owner makes it last longer (gpg --quick-set-expire), and gives the public key anew"
    return warned(name, f"{seen}, {left} days from now; then no mail is taken for {account}", hint)


def _refused(mail: MailHost, account: str) -> Finding:
    """What the sealer's policy service tells Postfix to do with mail for an account."""
    name = f"refused:{account}"
    try:
        said = probe(
            f"unix://{mail.get('postfix', 'queue')}/seal/policy.sock", banner=_REFUSED, timeout=10, verify=False,
            send=f"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=\nrecipient={account}\n\n",
        )  # fmt: skip
    except ResourceError as error:
        hint = "systemctl status state-agent-seal; mail for this account must not be taken"
        return failed(name, f"mail for {account} is not refused by the sealer: {error.summary}", hint)
    return passed(name, f"mail for it is refused, never stored in clear: {said.removeprefix('action=')}")
