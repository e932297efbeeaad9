"""What Postfix wrote into the journal about a message: by Message-ID its queue ids, by queue id what became of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.host.run import observe

_ID = re.compile(r"^([0-9A-Za-z]+): message-id=(\S+)$")
_STATUS = re.compile(r"^([0-9A-Za-z]+): to=<([^>]*)>.*?\bstatus=(\w+) \((.*)\)$")


@dataclass(frozen=True, slots=True)
class Status:
    """One attempt to deliver: `outcome` is sent, deferred, bounced or expired, `said` why or to whom."""

    recipient: str
    outcome: str
    said: str


class MailLog:
    """Lines of the mail log since a time."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    @classmethod
    def since(cls, started: float) -> MailLog:
        """Those of the journal, from a second before `started` on."""
        words = ["--output=cat", "--no-pager", "--quiet", f"--since=@{int(started) - 1}", "SYSLOG_FACILITY=2"]
        return cls(observe(["journalctl", *words], timeout=60).stdout.splitlines())

    def queue_ids(self, message_id: str) -> list[str]:
        """The ids under which a message was queued, in order."""
        found = (_ID.match(line) for line in self.lines)
        return list(dict.fromkeys(match[1] for match in found if match and match[2] == message_id))

    def statuses(self, message_id: str) -> list[Status]:
        """What became of a message: the last attempt for each recipient, and under each queue id."""
        ids = set(self.queue_ids(message_id))
        last: dict[tuple[str, str], Status] = {}
        for match in filter(None, map(_STATUS.match, self.lines)):
            if match[1] in ids:
                last[match[1], match[2]] = Status(match[2], match[3], match[4])
        return list(last.values())

    def stuck(self, message_id: str) -> str:
        """Why a message does not go on, where an attempt failed; else nothing."""
        # Not the last line: that Amavis took it may be written after what came next.
        troubles = [each for each in self.statuses(message_id) if each.outcome != "sent"]
        return f"{troubles[0].outcome}: {troubles[0].said}" if troubles else ""

    def about(self, queue_id: str, pattern: str) -> re.Match[str] | None:
        """The first line about a queue id that matches."""
        for line in self.lines:
            if line.startswith(f"{queue_id}: "):
                found = re.search(pattern, line)
                if found:
                    return found
        return None
