"""The sealer's pure parts: headers, frames, LMTP content, recipients."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError, ResourceError
from agent.mail.seal.already import is_sealed
from agent.mail.seal.fields import end_of_header, parameters, parsed
from agent.mail.seal.frame import HEAD_LIMIT, enough, frame, is_kept
from agent.mail.seal.keys import Recipients
from agent.mail.seal.ledger import Ledger
from agent.mail.seal.original import write_original
from agent.mail.seal.wire import content, stuffed

ODD = st.lists(
    st.sampled_from(
        b"\r\n|\n|\r|.|..|\0| |a|:|Subject: x|From: a@b|\xff\xfe|--|Content-Type: text/plain|From x y|HP-Outer: To: x|"
        b"Content-Type: multipart/mixed; boundary=b|Sealed-Original: 0000000001 3".split(b"|")
    ),
    max_size=30,
).map(b"".join) | st.binary(max_size=200)


def opened(message: bytes, **how: bytes) -> bytes:
    made = frame(message, complete=True, **how)
    assert made is not None
    target = io.BytesIO()
    write_original(io.BytesIO(made.opening + message + made.closing), target)
    return target.getvalue()


@given(ODD)
def test_the_original_comes_back_byte_for_byte(message: bytes) -> None:
    if frame(message, complete=True) is not None:
        assert opened(message) == message


@given(ODD)
def test_outside_is_a_clean_header_without_the_subject(message: bytes) -> None:
    made = frame(b"Subject: secret\r\nTo: a@b\r\n" + message, complete=True, newline=b"\r\n")
    if made is None:
        return
    assert b"secret" not in made.outer
    assert b"\0" not in made.outer and not made.outer.replace(b"\r\n", b"").count(b"\r")
    assert made.outer.count(b"\n") == made.outer.count(b"\r\n")
    head = parsed(made.outer, complete=True)
    assert [field.name for field in head.fields].count(b"content-type") == 1
    assert head.first(b"content-type").startswith(b"multipart/encrypted")


def test_what_is_readable_outside_and_what_inside() -> None:
    message = (
        b"Return-Path: <b@b>\nReceived: from x\n\tby y\nDKIM-Signature: v=1\nX-Spam-Report: Content preview: secret\n"
        b"X-Spam-Flag: NO\nFrom: b@b\nSubject: secret\n =?utf-8?q?more?=\nThread-Topic: secret\nList-Id: <l>\n"
        b"Content-Type: text/html\n\nsecret"
    )
    made = frame(message, complete=True)
    assert made is not None
    names = [field.name for field in parsed(made.outer, complete=True).fields]
    assert names == [
        *(b"return-path", b"received", b"x-spam-flag", b"from", b"list-id", b"subject", b"mime-version"),
        b"content-type",
    ]
    assert b"secret" not in made.outer and b"Received: from x\n\tby y\n" in made.outer
    inner = parsed(made.opening, complete=True)
    assert inner.first(b"subject") == b"secret =?utf-8?q?more?="
    assert parameters(inner.first(b"content-type")).items() >= {(b"protected-headers", b"v1"), (b"hp", b"cipher")}
    outer = [field.value for field in inner.fields if field.name == b"hp-outer"]
    assert outer == [b"From: b@b", b"List-Id: <l>", b"Subject: ..."]


@pytest.mark.parametrize("name", [b"thread-topic", b"comments", b"x-spam-report", b"dkim-signature", b"list-x"])
def test_unknown_fields_are_sealed(name: bytes) -> None:
    assert not is_kept(name)


PGP = b"-----BEGIN PGP MESSAGE-----\n\nx"
EXCHANGE = (
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\n\n--b\n"
    b"Content-Type: application/pgp-encrypted\n\nVersion: 1\n--b\nContent-Type: application/octet-stream\n\n" + PGP
)
FORWARDED = b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nlook:\n--b\n" + EXCHANGE


@pytest.mark.parametrize(
    ("message", "sealed"),
    [
        (b'Content-Type: multipart/encrypted;\n protocol="application/pgp-encrypted"; boundary=x\n\n--x', True),
        (b"CONTENT-TYPE : Multipart/Encrypted; boundary=x\n\n", True),
        (b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nx", True),
        (b"Content-Type: application/x-pkcs7-mime; smime-type=\"authEnveloped-data\"\n\nx", True),
        (b"Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nx", False),
        (b"Content-Type: application/pkcs7-mime; name=smime.p7m\n\nx", False),
        (b"Content-Type: multipart/signed; boundary=x\n\n", False),
        (b"Subject: x\n\n\r\n " + PGP, True),
        (b"Content-Type: text/plain\n\n" + PGP, True),
        (b"Content-Type: text/plain\n\nlook: " + PGP, False),
        (b"Content-Type: text/html\n\n" + PGP, False),
        (b"Content-Type: text/plain\nContent-Type: multipart/encrypted\n\nx", False),
        (EXCHANGE, True),
        (FORWARDED, False),
    ],
)  # fmt: skip
def test_what_is_not_sealed_twice(message: bytes, sealed: bool) -> None:
    head = parsed(message, complete=True)
    assert is_sealed(head, message[head.body :]) is sealed
    assert (frame(message, complete=True) is None) is sealed


def test_only_the_beginning_of_a_message_is_looked_at() -> None:
    assert not enough(b"A: b\r\n\r\n")
    assert enough(b"A: b\r\n\r\n" + b"x" * 20000)
    assert not enough(b"A: " + b"x" * 20000)
    assert enough(b"A: " + b"x" * HEAD_LIMIT)
    assert end_of_header(b"\r\nbody") == 2
    assert parsed(b"A: b\nC: d", complete=False).fields == parsed(b"A: b\n", complete=True).fields


def test_what_is_cut_off_is_told() -> None:
    made = frame(b"A: b\n\nx" * 10000, complete=True)
    assert made is not None
    for text in (b"", b"x", made.opening[:-1], made.opening + b"x"):
        with pytest.raises(AgentError, match=r"cut off|no message"):
            write_original(io.BytesIO(text), io.BytesIO())


def received(wire: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """What a reader makes of content that arrives in pieces, and what it leaves for the next command."""

    async def read() -> tuple[bytes, bytes]:
        reader = asyncio.StreamReader()

        async def feed() -> None:
            last = 0
            for cut in sorted({min(cut, len(wire)) for cut in cuts} | {len(wire)}):
                reader.feed_data(wire[last:cut])
                last = cut
                await asyncio.sleep(0)
            await asyncio.sleep(0)

        task = asyncio.create_task(feed())
        got = b"".join([piece async for piece in content(reader)])
        await task
        reader.feed_eof()
        return got, await reader.read()

    return asyncio.run(read())


@given(ODD, st.lists(st.integers(0, 300), max_size=8))
def test_content_survives_lmtp_however_it_is_cut(message: bytes, cuts: list[int]) -> None:
    wire = b"".join(stuffed([message[at : at + 3] for at in range(0, len(message), 3)]))
    assert wire[-2:] in (b"", b"\r\n")
    got, rest = received(wire + b".\r\nQUIT\r\n", cuts)
    assert got in (message, message + b"\r\n")
    assert rest == b"QUIT\r\n"


@pytest.mark.parametrize("smuggled", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r"])
def test_only_one_line_end_ends_a_message(smuggled: bytes) -> None:
    got, rest = received(b"a" + smuggled + b"MAIL FROM:<x>\r\n.\r\n", [])
    assert rest == b"" and got.endswith(b"MAIL FROM:<x>\r\n")


def table(tmp_path: Path, **changes: object) -> Recipients:
    file = tmp_path / "recipients.json"
    aliases = {"info@x.net": ["Ann@x.net", "bob@x.net"], "all@x.net": ["info@x.net"], "ring@x.net": ["ring2@x.net"]}
    aliases["ring2@x.net"] = ["ring@x.net", "ann@x.net"]
    accounts = {"Ann@x.net": "ab cd", "bob@x.net": None}
    file.write_text(
        json.dumps({"domain": "x.net", "delimiter": "+", "accounts": accounts, "aliases": aliases} | changes)
    )
    return Recipients.read(str(file))


def test_recipients(tmp_path: Path) -> None:
    read = table(tmp_path)
    assert read.accounts["ann@x.net"] == "ABCD"
    assert read.accounts_of("ANN+tag@X.net") == ["ann@x.net"]
    assert read.accounts_of("all+x@x.net") == ["ann@x.net", "bob@x.net"]
    assert read.accounts_of("ring@x.net") == ["ann@x.net"]
    assert read.accounts_of("bob") == ["bob@x.net"]
    assert read.accounts_of("nobody@x.net") == []
    assert read.spellings("+a@x.net") == ["+a@x.net"]
    assert Recipients.read(str(tmp_path / "none")) == Recipients()
    with pytest.raises(ResourceError, match="not a list of recipients"):
        table(tmp_path, accounts=[1])


def test_ledger_keeps_the_first_moment(tmp_path: Path) -> None:
    Ledger(str(tmp_path)).note({"a", "gone"}, {"a", "b"}, 100.0)
    ledger = Ledger(str(tmp_path))
    ledger.note({"a", "b"}, {"a", "b"}, 200.0)
    assert Ledger(str(tmp_path)).since == {"a": 100.0, "b": 200.0}
    ledger.note(set(), {"a", "b"}, 300.0)
    assert Ledger(str(tmp_path)).since == {}
    (tmp_path / "without-key.json").write_text("[")
    assert Ledger(str(tmp_path)).since == {}
