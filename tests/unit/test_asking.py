"""Questions to the resident agent, and its answers in pieces."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from agent.host.asking import _AT_ONCE, Answering, ask


@pytest.mark.parametrize("count", [0, 1, _AT_ONCE - 1, _AT_ONCE, _AT_ONCE + 1, 3 * _AT_ONCE])
def test_rows_arrive_whole(tmp_path: Path, count: int) -> None:
    path = tmp_path / "agent.sock"
    answering = Answering(path, lambda question: (question, (json.dumps({"row": number}) for number in range(count))))
    thread = threading.Thread(target=lambda: _serve(answering))
    thread.start()
    found = ask(path, {"everything": True})
    thread.join()
    answering.close()
    assert found is not None
    assert found[0] == {"everything": True}
    assert json.loads(found[1]) == [{"row": number} for number in range(count)]


def test_half_an_answer_is_none(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        thread = threading.Thread(target=lambda: _say(listener, b'{"version": 1}\n[{"row": 1},'))
        thread.start()
        assert ask(tmp_path / "agent.sock", {}) is None
        thread.join()


def _serve(answering: Answering) -> None:
    answering._socket.settimeout(10)
    answering.serve()


def _say(listener: socket.socket, text: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(text)


@pytest.mark.parametrize("said", [b"[]\n", b'"status"\n', b"5\n", b"[" * 4000 + b"\n", b"\xff\n", b""])
def test_what_is_no_question_gets_no_answer(tmp_path: Path, said: bytes) -> None:
    answering = Answering(tmp_path / "agent.sock", lambda question: (question, iter(question["rows"])))
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(tmp_path / "agent.sock"))
        asker.sendall(said)
        asker.shutdown(socket.SHUT_WR)
        answering.serve()
        asker.settimeout(5)
        assert asker.recv(100) == b""
    answering.close()
