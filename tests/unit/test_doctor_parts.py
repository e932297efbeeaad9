"""The mail test's pure parts: addresses, the mail log, queues, headers, keys in DNS records."""

from __future__ import annotations

import json
import os
import types
from pathlib import Path

import pytest

from agent.host.mounts import Mount
from agent.mail.doctor import traces
from agent.mail.doctor.addresses import outside_of, parsed
from agent.mail.doctor.incoming import _plaintext
from agent.mail.doctor.mailbox import field, header, newest, stored
from agent.mail.doctor.maillog import MailLog
from agent.mail.doctor.outgoing import public_part
from agent.mail.doctor.places import inside
from agent.mail.doctor.probe import GTUBE, Probe
from agent.mail.doctor.standing import waiting
from agent.mail.doctor.talk import Answer, answer
from agent.mail.doctor.traces import changed

LINKS = [
    {"addr_info": [{"family": "inet", "local": "127.0.0.1", "scope": "host"}]},
    {
        "addr_info": [
            {"family": "inet6", "local": "2001:db8::5", "scope": "global"},
            {"family": "inet6", "local": "fe80::1", "scope": "link"},
            {"family": "inet", "local": "192.168.1.5", "scope": "global"},
        ]
    },
]
LOG = """\
connect from unknown[192.0.2.1]
A1: message-id=<x@test>
A1: from=<>, size=1, nrcpt=1 (queue active)
B2: message-id=<x@test>
B2: to=<ann@test>, orig_to=<info@test>, relay=none, delay=1, dsn=4.3.0, status=deferred (connect to /run/x: refused)
A1: to=<info@test>, relay=127.0.0.1[127.0.0.1]:10024, dsn=2.0.0, status=sent (250 2.0.0: queued as B2)
A1: removed
C3: message-id=<y@test>
C3: to=<ann@test>, relay=x, dsn=5.0.0, status=bounced (no)
C3: DKIM-Signature field added (s=mail2026, d=example.net)
"""


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [("all", ["192.168.1.5", "2001:db8::5"]), ("ipv4", ["192.168.1.5"]), ("ipv6", ["2001:db8::5"])],
)
def test_addresses_that_others_reach(protocols: str, expected: list[str]) -> None:
    assert parsed(LINKS, protocols) == expected


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        (["127.0.0.0/8", "::1/128"], "192.168.1.5"),
        (["192.168.1.0/24"], "2001:db8::5"),
        (["192.168.1.7/24", "2001:db8::/32"], ""),
    ],
)
def test_a_stranger_s_address(networks: list[str], expected: str) -> None:
    assert outside_of(["192.168.1.5", "2001:db8::5"], networks) == expected


def test_what_became_of_a_message() -> None:
    log = MailLog(LOG.splitlines())
    assert log.queue_ids("<x@test>") == ["A1", "B2"]
    assert log.stuck("<x@test>") == "deferred: connect to /run/x: refused"
    assert log.stuck("<y@test>") == "bounced: no"
    assert log.stuck("<z@test>") == ""
    mended = LOG + "B2: to=<ann@test>, relay=none, dsn=2.0.0, status=sent (250 Saved)\n"
    assert MailLog(mended.splitlines()).stuck("<x@test>") == ""
    found = log.about("C3", r"\(s=(\S+), d=(\S+)\)")
    assert found is not None
    assert found.groups() == ("mail2026", "example.net")
    assert log.about("A1", "DKIM") is None


def test_what_waits_in_the_queue() -> None:
    rows = [
        {"arrival_time": 500, "recipients": [{"address": "a@b", "delay_reason": "later"}]},
        {"arrival_time": 100, "recipients": [{"address": "a@b", "delay_reason": "refused"}]},
        {"arrival_time": 2000, "recipients": [{"address": "a@b"}]},
    ]
    lines = [json.dumps(row) for row in rows]
    assert waiting(lines, 1000) == (2, "refused")
    assert waiting(lines, 50) == (0, "nothing")
    assert waiting([""], 50) == (0, "nothing")


def test_header_fields() -> None:
    message = b"X-Spam-Flag: YES\r\nSubject: a\r\n  b\r\nEmpty:\r\n\r\nTo: in the body\r\n"
    assert field(message, "x-spam-flag") == "YES"
    assert field(message, "subject") == "a b"
    assert field(message, "to") is None
    assert field(message, "spam-flag") is None
    assert b"body" not in header(message)


def test_a_message_is_found_by_its_id_in_its_header_alone(tmp_path: Path) -> None:
    for place in ("new", "cur", "tmp"):
        (tmp_path / place).mkdir()
    (tmp_path / "cur" / "1").write_bytes(b"Subject: x\n\nMessage-ID: <x@test>\n")
    (tmp_path / "tmp" / "2").write_bytes(b"Message-ID: <x@test>\n\n")
    assert stored(str(tmp_path), "<x@test>", 0) is None
    (tmp_path / "new" / "3").write_bytes(b"message-id: <X@test>\r\n\r\n")
    assert stored(str(tmp_path), "<x@test>", 0) == f"{tmp_path}/new/3"
    os.utime(tmp_path / "new" / "3", (1000, 1000))
    assert stored(str(tmp_path), "<x@test>", 2000) is None
    assert newest(str(tmp_path), 1) == [f"{tmp_path}/cur/1"]


def test_files_that_changed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("old", "deep/new"):
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / "old", (1000, 1000))
    (tmp_path / "link").symlink_to("old")
    assert list(changed([str(tmp_path), "/nowhere"], 2000)) == [f"{tmp_path}/deep/new"]


def test_the_mount_that_holds_a_path() -> None:
    mounts = [
        Mount(path, kind, "", frozenset()) for path, kind in [("/", "ext4"), ("/srv/mail", "fuse"), ("/srv", "x")]
    ]
    assert [inside(mounts, path).type for path in ("/srv/mail/a", "/srv/mail", "/srv/mailbox", "/etc")] == [  # type: ignore[union-attr]
        "fuse", "fuse", "x", "ext4",
    ]  # fmt: skip
    assert inside([], "/x") is None


def test_answers() -> None:
    said = answer(450, b"4.2.0 <a@b>: Recipient address rejected:\nGreylisted")
    assert said.greylisted
    assert "\n" not in str(said)
    assert not Answer(451, "Greylisted").greylisted
    assert not Answer(450, "no such domain").greylisted


def test_the_key_in_a_dkim_record() -> None:
    assert public_part("v=DKIM1; h=sha256; k=rsa; p=AB C=D==") == "ABC=D=="
    assert public_part("v=spf1 mx -all") == ""
    assert public_part("v=DKIM1; p=") == ""


def test_the_message_keeps_its_marker_to_itself() -> None:
    probe = Probe("a", "ann@example.net", ["ann@example.net"], spam=True)
    message = probe.message()
    assert GTUBE.encode() in message
    assert message.count(probe.marker.encode()) == 2
    assert probe.marker not in probe.message_id
    assert not probe.arrived
    probe.files["ann@example.net"] = "x"
    assert probe.arrived
    assert GTUBE.encode() not in Probe("a", "b@c", []).message()


@pytest.mark.parametrize(("limit", "outcome"), [(60.0, "failed"), (-1.0, "warned")])
def test_a_search_that_was_ended_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, outcome: str
) -> None:
    (tmp_path / "message").write_text("the marker is here")
    settings = {"cipher": str(tmp_path)}
    mail = types.SimpleNamespace(
        has=lambda _state: True, get=lambda _state, name: settings[name], say=lambda _text: None, started=0.0
    )
    monkeypatch.setattr(traces, "_PLACES", ())
    monkeypatch.setattr(traces, "LIMIT", limit)
    monkeypatch.setattr(traces, "observe", lambda *_words, **_more: types.SimpleNamespace(stdout=""))
    found = traces.traces(mail, ["marker"])  # type: ignore[arg-type]
    assert _plaintext(mail, found, sent=True).outcome == outcome  # type: ignore[arg-type]
