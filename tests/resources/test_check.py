"""The kind `check`: real programs, and real services on the loopback interface."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CommandFailed, Missing, ResourceError
from agent.host import Host
from agent.host.probe import service
from agent.resource import differences
from agent.resources.check import Check

Serve = Callable[..., int]
SMTP = [b"220-mail.example\r\n", b"220 mail.example ESMTP\r\n"]
EHLO = b"250-mail.example\r\n250-STARTTLS\r\n250 SMTPUTF8\r\n"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a service that says `greeting` and then answers each line that it hears with the next of `answers`."""
    listeners = []

    def start(
        *greeting: bytes, answers: tuple[bytes, ...] = (), tls: ssl.SSLContext | None = None, ipv6: bool = False
    ) -> int:
        family, address = (socket.AF_INET6, "::1") if ipv6 else (socket.AF_INET, "127.0.0.1")
        listener = socket.create_server((address, 0), family=family)
        listeners.append(listener)

        def talk() -> None:
            while listener.fileno() >= 0:
                with contextlib.suppress(OSError):
                    plain, _ = listener.accept()
                    with tls.wrap_socket(plain, server_side=True) if tls else plain as stream:
                        say(stream)

        def say(stream: socket.socket) -> None:
            for part in greeting:
                stream.sendall(part)
                time.sleep(0.02)
            heard = stream.makefile("rb")
            for answer in answers:
                if heard.readline():
                    stream.sendall(answer)
            heard.read()

        threading.Thread(target=talk, daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    options = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    subprocess.run(
        [*options.split(), "-keyout", path, "-out", f"{path}.crt"],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def seen(**fields: Any) -> str:
    check = Check(name="x", **fields)
    assert not list(check.problems())
    return check.check(Host())


def failure(**fields: Any) -> ResourceError:
    with pytest.raises(ResourceError) as caught:
        seen(**fields)
    return caught.value


def test_it_never_is_a_change() -> None:
    check = Check(name="x", run=["false"])
    assert differences(check.read(Host()), check.desired(Host())) is None


class TestRun:
    def test_exit_status(self) -> None:
        assert seen(run=["true"]) == "exit status 0"
        assert seen(run=["sh", "-c", "exit 3"], expect=3) == "exit status 3"
        error = failure(run=["sh", "-c", "echo said; echo wrong >&2; exit 4"])
        assert error.detail == "expected: exit status 0\ncame: exit status 4\nsaid\nwrong"

    def test_output(self) -> None:
        script = ["sh", "-c", "echo first; echo 'second line'; echo third >&2"]
        assert seen(run=script, expect="^sec") == "second line"
        assert seen(run=script, expect="thi") == "third"
        error = failure(run=script, expect="fourth")
        assert "expected: exit status 0 and fourth\ncame: exit status 0\nfirst" in error.detail

    def test_both(self) -> None:
        script = ["sh", "-c", "echo out; exit 2"]
        assert seen(run=script, expect={"status": 2, "output": "out"}) == "out"
        failure(run=script, expect={"status": 2, "output": "other"})
        failure(run=script, expect="out")

    def test_time_limit_and_missing_program(self) -> None:
        start = time.monotonic()
        assert isinstance(failure(run=["sleep", "60"], timeout="200ms"), CommandFailed)
        assert time.monotonic() - start < 5
        assert isinstance(failure(run=["no-such-program"]), Missing)


class TestConnect:
    def test_tcp(self, serve: Serve) -> None:
        port = serve(b"hel", b"lo\n", b"more\n")
        assert seen(connect=f"tcp://127.0.0.1:{port}") == "connected"
        assert seen(connect=f"tcp://localhost:{port}", expect="^hello\n") == "hello"
        assert seen(connect=f"tcp://localhost:{port}", expect={"banner": "more"}) == "hello"
        error = failure(connect=f"tcp://127.0.0.1:{port}", expect="bye", timeout="300ms")
        assert error.detail == "expected: bye\ncame: hello\nmore"

    def test_ipv6(self, serve: Serve) -> None:
        port = serve(b"six\n", ipv6=True)
        assert seen(connect=f"tcp://[::1]:{port}", expect="six") == "six"

    def test_refused_to_the_end(self) -> None:
        start = time.monotonic()
        error = failure(connect=f"tcp://127.0.0.1:{free_port()}", timeout="500ms")
        assert "nothing listens there" in error.summary
        assert 0.2 < time.monotonic() - start < 2

    def test_refused_at_first(self) -> None:
        port = free_port()

        def late() -> None:
            time.sleep(0.3)
            with socket.create_server(("127.0.0.1", port)) as listener:
                listener.accept()[0].close()

        thread = threading.Thread(target=late)
        thread.start()
        assert seen(connect=f"tcp://127.0.0.1:{port}", timeout="5s") == "connected"
        thread.join()

    def test_a_name_that_does_not_resolve(self) -> None:
        assert "cannot be resolved" in failure(connect="tcp://no-such-host.invalid:1", timeout="2s").summary
        assert "it is not a host name" in failure(connect="tcp://a..b:1").summary


class TestMail:
    def test_smtp(self, serve: Serve) -> None:
        port = serve(*SMTP, answers=(EHLO,))
        assert seen(connect=f"smtp://127.0.0.1:{port}") == "220-mail.example"
        assert seen(connect=f"smtp://127.0.0.1:{port}", expect="^250-STARTTLS$") == "220-mail.example"
        error = failure(connect=f"smtp://127.0.0.1:{port}", expect="AUTH")
        assert "expected: AUTH" in error.detail and "250-STARTTLS" in error.detail

    @pytest.mark.parametrize(
        ("greeting", "answer", "came"),
        [
            (b"554 go away\r\n", b"", "554 go away"),
            (b"220 mail.example\r\n", b"502 what?\r\n", "502 what?"),
            (b"", b"", "nothing"),
        ],
    )
    def test_smtp_that_is_not_willing(self, serve: Serve, greeting: bytes, answer: bytes, came: str) -> None:
        port = serve(greeting, answers=(answer,))
        error = failure(connect=f"smtp://127.0.0.1:{port}", timeout="500ms")
        assert f"came: {came}" in error.detail or "did not answer within 0.5 s" in error.summary

    def test_a_service_that_says_nothing(self, serve: Serve) -> None:
        error = failure(connect=f"smtp://127.0.0.1:{serve()}", timeout="200ms")
        assert "did not answer within 0.2 s" in error.summary

    def test_imap(self, serve: Serve) -> None:
        port = serve(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] Dovecot ready.\r\n")
        assert seen(connect=f"imap://127.0.0.1:{port}", expect="Dovecot").startswith("* OK")
        failure(connect=f"imap://127.0.0.1:{port}", expect="Courier")
        port = serve(b"* BYE no", b" more\r\n")
        assert "came: * BYE no more" in failure(connect=f"imap://127.0.0.1:{port}").detail

    def test_tls_from_the_start(self, serve: Serve, tls: ssl.SSLContext) -> None:
        port = serve(b"* OK ready\r\n", tls=tls)
        assert seen(connect=f"imaps://localhost:{port}").startswith("* OK ready (TLSv1.3 ")
        port = serve(*SMTP, answers=(EHLO,), tls=tls)
        assert seen(connect=f"smtps://localhost:{port}", expect="ESMTP").startswith("220-mail.example (TLS")


class TestTls:
    def test_handshake(self, serve: Serve, tls: ssl.SSLContext) -> None:
        assert seen(connect=f"tls://localhost:{serve(tls=tls)}").startswith("TLSv1.3 ")
        assert seen(connect=f"tls://127.0.0.1:{serve(b'hi', tls=tls)}", expect="hi").startswith("hi (TLSv1.3")

    def test_verify(
        self, serve: Serve, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"tls://localhost:{serve(tls=tls)}"
        assert "certificate is not valid: self-signed" in failure(connect=url, verify=True).summary
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert seen(connect=url, verify=True).startswith("TLS")
        other = f"tls://127.0.0.1:{serve(tls=tls)}"
        assert "not valid for '127.0.0.1'" in failure(connect=other, verify=True).summary

    def test_no_tls_there(self, serve: Serve) -> None:
        error = failure(connect=f"tls://127.0.0.1:{serve(b'220 plain text speaks first')}")
        assert "no TLS there" in error.summary

    def test_a_handshake_that_never_ends(self, serve: Serve) -> None:
        assert "within 0.2 s" in failure(connect=f"tls://127.0.0.1:{serve()}", timeout="200ms").summary


class TestDeclaration:
    @pytest.mark.parametrize(
        "url",
        [
            "localhost:25",
            "http://x",
            "tcp://x",
            "tcp://:1",
            "tcp://x:99999",
            "smtp://u@x",
            "smtp://x/y",
            "unix://run/x",
        ],
    )
    def test_wrong_urls(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"tcp|port|path"):
            service(url)

    def test_what_is_said_first_decides_the_answer(self, serve: Serve) -> None:
        port = serve(answers=(b"action=DUNNO\n",))
        assert seen(connect=f"tcp://127.0.0.1:{port}", send="request=x\n\n", expect="^action=") == "action=DUNNO"

    def test_a_socket_in_the_file_system(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"

        def talk() -> None:
            time.sleep(0.3)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                listener.listen()
                with listener.accept()[0] as stream:
                    stream.sendall(b"heard " + stream.recv(100))

        threading.Thread(target=talk, daemon=True).start()
        assert seen(connect=f"unix://{path}", send="hello", expect="hello") == "heard hello"
        path.unlink()
        error = failure(connect=f"unix://{path}", timeout="100ms")
        assert "nothing listens there" in str(error)

    def test_urls(self) -> None:
        assert service("unix:///run//x/socket").host == "/run/x/socket"
        assert service("smtp://mail.example").port == 25
        assert service("imaps://[2001:db8::1]").port == 993
        assert service("tcp://[2001:db8::1]:80").host == "2001:db8::1"

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"run": ["true"], "connect": "tcp://x:1"},
            {"run": ["true"], "expect": {"banner": "x"}},
            {"run": ["true"], "expect": {"stdout": "x"}},
            {"run": ["true"], "expect": {"status": "0"}},
            {"run": ["true"], "expect": {"output": 1}},
            {"run": ["true"], "expect": "("},
            {"run": ["true"], "verify": True},
            {"connect": "tcp://x:1", "expect": 0},
            {"connect": "tcp://x:1", "verify": True},
            {"connect": "smtp://x", "send": "QUIT\r\n"},
            {"run": ["true"], "send": "x"},
        ],
    )
    def test_problems(self, fields: dict[str, Any]) -> None:
        assert list(Check(name="x", **fields).problems())
