"""What must hold while no mail comes: the store, the queue, mailboxes, jails, the clock."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator

from agent.errors import Missing
from agent.host.immutable import is_immutable
from agent.host.mounts import Mounts, answers, bare, held_beneath
from agent.host.run import observe
from agent.mail.doctor.finding import Finding, failed, passed, skipped, warned
from agent.mail.doctor.mailbox import field, newest
from agent.mail.doctor.places import inside
from agent.mail.doctor.site import MailHost

_DAY = 86400
_LOOKED_AT = 50


def store(mail: MailHost) -> Iterator[Finding]:
    """The encrypted store: mounted, with queue and mailboxes in it, and nothing beneath it."""
    if not mail.has("mailstore"):
        yield skipped("store", "the site has no mailstore: queue and mailboxes lie on the disk as they are")
        return
    path = str(mail.get("mailstore", "path"))
    apply = f"agent apply gocryptfs:{path}"
    mount = Mounts().at(path)
    if mount is None or mount.type != "fuse.gocryptfs" or not answers(path):
        yield failed("store", f"{path} is not mounted, or not served", apply)
        return
    yield passed("store", f"{path} is encrypted in {mail.get('mailstore', 'cipher')}")
    places = {"queue": mail.get("postfix", "queue")}
    if mail.has("dovecot"):
        places["mailboxes"] = mail.mailboxes
    if mail.has("amavis"):
        places["amavis"] = mail.get("amavis", "tempdir")
    for name, place in places.items():
        yield _encrypted(f"store:{name}", str(place))
    yield _beneath(path)


def _encrypted(name: str, place: str) -> Finding:
    mount = inside(Mounts().all, place)
    if mount is not None and mount.type == "fuse.gocryptfs":
        return passed(name, f"{place} is on gocryptfs")
    kind = mount.type if mount is not None else "nothing"
    return failed(name, f"{place} is on {kind}: messages lie there in clear", "agent apply; see the state mailstore")


def _beneath(path: str) -> Finding:
    name = "store:beneath"
    left = held_beneath(path)
    if left:
        hint = f"look at it with the store unmounted; it is in clear: {', '.join(sorted(left)[:5])}"
        return failed(name, f"{len(left)} files or folders lie beneath the mount, in clear", hint)
    with bare(path) as fd:
        flag = None if fd is None else is_immutable(fd)
    if flag is None:
        return skipped(name, "nothing lies beneath the mount; this file system has no immutable flag")
    if not flag:
        hint = f"agent apply gocryptfs:{path} makes it so"
        return failed(
            name, "the bare mount point is not immutable: without the mount, mail would be written in clear", hint
        )
    return passed(name, "nothing lies beneath the mount, and nothing can")


def queue(mail: MailHost) -> Iterator[Finding]:
    """Messages that wait for long."""
    mail.say("the queue")
    said = observe(["postqueue", "-j"], timeout=60)
    if not said.ended_well:
        yield failed("queue", "the queue cannot be listed", "systemctl status postfix; journalctl -u postfix")
        return
    old, reason = waiting(said.stdout.splitlines(), time.time() - _DAY)
    if old:
        hint = f"postqueue -p lists them, postqueue -f tries again; the oldest one says: {reason}"
        yield warned("queue", f"{old} messages wait for longer than a day", hint)
    else:
        yield passed("queue", "no message waits for longer than a day")


def waiting(lines: Iterable[str], before: float) -> tuple[int, str]:
    """How many messages came before a time (postqueue(1), JSON), and why the oldest of them waits."""
    found = [json.loads(line) for line in lines if line.strip()]
    old = sorted((each for each in found if each["arrival_time"] < before), key=lambda each: each["arrival_time"])
    reasons = [who.get("delay_reason", "") for each in old[:1] for who in each.get("recipients", ())]
    return len(old), next(filter(None, reasons), "nothing")


def mailboxes(mail: MailHost) -> Iterator[Finding]:
    """Whether what lies in the inboxes is sealed."""
    if not mail.has("dovecot", "seal"):
        return
    for account in mail.recipients.accounts:
        files = newest(f"{mail.mailboxes}/{account}/Maildir", _LOOKED_AT)
        clear = [path for path in files if not _is_sealed(path)]
        name = f"mailbox:{account}"
        if clear:
            hint = (
                f"the newest one is {clear[0]}: did it come before the sealer, or was it put there by a mail program?"
            )
            yield warned(name, f"{len(clear)} of the newest {len(files)} messages in the inbox are not encrypted", hint)
        else:
            yield passed(
                name, f"the newest {len(files)} messages in the inbox are encrypted" if files else "it is empty"
            )


def _is_sealed(path: str) -> bool:
    from agent.mail.seal.already import is_sealed
    from agent.mail.seal.fields import parsed

    try:
        with open(path, "rb") as file:
            begin = file.read(1 << 16)
    except FileNotFoundError:  # moved by a mail program just now
        return True
    if (field(begin, "Content-Type") or "").lower().startswith("multipart/encrypted"):
        return True
    head = parsed(begin, complete=True)
    return is_sealed(head, begin[head.body :])


def jails(mail: MailHost) -> Iterator[Finding]:
    """Whether Fail2ban watches what it is to watch."""
    if not mail.has("fail2ban"):
        return
    names = [name for name in ("postfix", "dovecot") if mail.has(name)]
    for jail in [*names, *(["sshd"] if mail.get("fail2ban", "sshd") else [])]:
        said = observe(["fail2ban-client", "status", jail], timeout=30)
        banned = re.search(r"Currently banned:\s*(\d+)", said.stdout)
        if said.ended_well and banned:
            yield passed(f"jail:{jail}", f"it watches; {banned[1]} addresses are shut out now")
        else:
            hint = "systemctl status fail2ban; journalctl -u fail2ban; fail2ban-client --test"
            yield failed(f"jail:{jail}", "it does not run", hint)


def clock(mail: MailHost) -> Iterator[Finding]:
    """Whether the clock is kept right: certificates, keys and signatures go by it."""
    del mail
    try:
        if observe(["systemd-detect-virt", "--container"], timeout=10).ended_well:
            yield skipped("clock", "a container has the clock of the machine that it runs on")
            return
        said = observe(["timedatectl", "show", "--property=NTPSynchronized", "--value"], timeout=10).stdout.strip()
    except Missing as error:
        yield skipped("clock", error.summary)
        return
    if said == "yes":
        yield passed("clock", "it is synchronised")
    else:
        yield warned("clock", "it is not synchronised", "apt install systemd-timesyncd; timedatectl set-ntp true")
