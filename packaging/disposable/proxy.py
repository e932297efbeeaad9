"""The hosts' way to packages: an HTTP proxy for apt that keeps every .deb for all hosts to come."""

import contextlib
import ctypes
import http.server
import os
import shutil
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from email.message import Message
from pathlib import Path
from typing import IO

from disposable.machine import CACHE, REALM

ASKED = ("Range", "If-Range", "If-Modified-Since", "Cache-Control", "User-Agent")
ANSWERED = ("Content-Length", "Content-Type", "Content-Range", "Last-Modified")


def pick(headers: Message, names: Sequence[str]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


class PackageProxy(http.server.BaseHTTPRequestHandler):
    """Passes requests on; a .deb is stored by its address, which never gets another content in an archive."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        stored = CACHE / "packages" / urllib.parse.quote(self.path, safe="")
        if not self.path.startswith("http://"):
            self.send_error(501, "only http is served")
        elif stored.exists():
            with stored.open("rb") as package:
                self.answer(200, {"Content-Length": str(stored.stat().st_size)})
                shutil.copyfileobj(package, self.wfile)
        else:
            self.fetch(stored)

    def fetch(self, stored: Path) -> None:
        request = urllib.request.Request(self.path, headers=pick(self.headers, ASKED))
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        except OSError as error:
            self.send_error(502, str(error))
            return
        with answer:
            self.answer(answer.status, pick(answer.headers, ANSWERED))
            if answer.status == 200 and self.path.endswith(".deb"):
                self.relay_and_store(answer, stored)
            else:
                shutil.copyfileobj(answer, self.wfile)

    def relay_and_store(self, answer: IO[bytes], stored: Path) -> None:
        stored.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=CACHE, prefix="package-") as copy:
            while block := answer.read(1 << 16):
                self.wfile.write(block)
                copy.write(block)
            copy.flush()
            with contextlib.suppress(FileExistsError):
                os.link(copy.name, stored)

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and status != 304:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: apt itself reports what fails."""


def serve_packages(address: str, port: int) -> None:
    """Listens in the hosts' network from now on, and fetches through the machine's own."""
    with Path("/proc/self/ns/net").open() as here, Path(f"/run/netns/{REALM}").open() as there:
        enter(there)
        try:
            server = http.server.ThreadingHTTPServer((address, port), PackageProxy)
        finally:
            enter(here)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def enter(namespace: IO[str]) -> None:
    """setns(2), which Python has from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), 0):
        raise OSError(ctypes.get_errno(), "setns")
