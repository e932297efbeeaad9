"""Runs in the world: brings file N of a folder to port 25 from bob+N@…, byte for byte, and prints what was answered."""

from __future__ import annotations

import json
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def reply(lines) -> str:  # type: ignore[no-untyped-def]
    """A whole reply."""
    text = b""
    while line := lines.readline():
        text += line
        if line[3:4] != b"-":
            break
    return text.decode(errors="replace").strip()


def bring(server: str, to: str, path: Path, chunks: bool) -> str:
    """Send a message, which ends with CR LF, by DATA, or by BDAT in two pieces; gives the last answer."""
    message = path.read_bytes()
    with socket.create_connection((server, 25), 120) as wire, wire.makefile("rb") as lines:
        reply(lines)
        for command in ("EHLO mail.friend.example", f"MAIL FROM:<bob+{path.name}@friend.example>", f"RCPT TO:<{to}>"):
            wire.sendall(command.encode() + b"\r\n")
            answer = reply(lines)
            if answer[:1] != "2":
                return answer
        if chunks:
            half = len(message) // 2
            wire.sendall(b"BDAT %d\r\n%bBDAT %d LAST\r\n" % (half, message[:half], len(message) - half))
            wire.sendall(message[half:])
            reply(lines)
        else:
            wire.sendall(b"DATA\r\n")
            answer = reply(lines)
            if answer[:1] != "3":
                return answer
            stuffed = re.sub(rb"(\A|\n)\.", rb"\1..", message)
            wire.sendall(stuffed + b".\r\nQUIT\r\n")
        return reply(lines)


def main() -> None:
    """Bring them all, some at a time; every third by BDAT."""
    server, to, folder = sys.argv[1:]
    paths = sorted(Path(folder).iterdir(), key=lambda path: int(path.name))
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda path: bring(server, to, path, int(path.name) % 3 == 0), paths)
        print(json.dumps({path.name: answer for path, answer in zip(paths, answers, strict=True)}))


if __name__ == "__main__":
    main()
