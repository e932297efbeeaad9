"""Runs inside the host of `tests/bench/seal`: how many messages a second are sealed, and by whom.

Each is measured one message at a time and two at a time; every message is the same, of 7-bit text. Behind the sealer is
an LMTP server that stores nothing. Rounds of all contestants take turns; the median counts. The CPU time of a message
is that of the contestant alone, with what it starts: not that of the sender and of the server behind.
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import platform
import random
import re
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, "/usr/lib/state-agent")
from agent.host.openpgp.pipe import command

HERE = Path("/root/seal-bench")
ADDRESS = "bench@example.net"
SIZES = {"2 kB": (2_000, 150), "100 kB": (100_000, 60), "10 MB": (10_000_000, 4)}
ROUNDS = 3
PERL = """
use MIME::Parser; use Mail::GnuPG;
my $parser = MIME::Parser->new; $parser->output_to_core(1);
my $entity = $parser->parse(\\*STDIN);
my $gpg = Mail::GnuPG->new(keydir => $ARGV[0], always_trust => 1);
$gpg->mime_encrypt($entity, $ARGV[1]) == 0 or die "not encrypted";
$entity->print(\\*STDOUT);
"""


def store(path: str) -> None:
    """An LMTP server that forgets what it gets."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(8)
    with ThreadPoolExecutor(8) as pool:
        while True:
            pool.submit(forget, server.accept()[0])


def forget(channel: socket.socket) -> None:
    channel.sendall(b"220 store\r\n")
    waiting, last = b"", b""
    while data := channel.recv(1 << 18):
        waiting += data
        while b"\r\n" in waiting:
            line, _, waiting = waiting.partition(b"\r\n")
            if line == b"DATA":
                channel.sendall(b"354 go on\r\n")
                last = waiting
                while not last.endswith(b"\r\n.\r\n"):
                    last = last[-5:] + channel.recv(1 << 18)
                waiting = b""
                channel.sendall(b"250 stored\r\n")
            else:
                channel.sendall(b"250-store\r\n250 PIPELINING\r\n" if line[:4] == b"LHLO" else b"250 fine\r\n")


def deliver(message: bytes, count: int) -> None:
    """Send a message so many times as Postfix does: over one connection, commands pipelined."""
    channel = socket.socket(socket.AF_UNIX)
    channel.connect("/run/seal-bench.sock")
    lines = channel.makefile("rb")

    def expect(code: bytes) -> None:
        while (line := lines.readline())[3:4] == b"-":
            pass
        assert line[:3] == code, line

    expect(b"220")
    channel.sendall(b"LHLO bench\r\n")
    expect(b"250")
    for _ in range(count):
        channel.sendall(b"MAIL FROM:<a@b>\r\nRCPT TO:<%s>\r\nDATA\r\n" % ADDRESS.encode())
        expect(b"250")
        expect(b"250")
        expect(b"354")
        channel.sendall(message)
        channel.sendall(b".\r\n")
        expect(b"250")
    channel.close()


def programs(words: list[str], file: Path, count: int) -> None:
    """Run a program on a message so many times."""
    for _ in range(count):
        with file.open("rb") as source:
            subprocess.run(words, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def spent_by_programs() -> float:
    """Seconds of CPU time of all programs that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def spent_by(pid: int) -> float:
    """Seconds of CPU time of a process, with all its children that have ended (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def measure(work: Callable[[int], None], spent: Callable[[], float], count: int, at_once: int) -> tuple[float, float]:
    """Messages a second, and milliseconds of CPU time for each."""
    each = count // at_once
    started, before = time.perf_counter(), spent()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(work, [each] * at_once))
    took = time.perf_counter() - started
    return each * at_once / took, 1000 * (spent() - before) / (each * at_once)


def main() -> None:
    home = HERE / "home"
    home.mkdir(parents=True, mode=0o700)
    quiet = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*quiet, "--quick-generate-key", f"Bench <{ADDRESS}>", "default", "default", "never"], check=True)
    listing = subprocess.run(
        [*quiet, "--with-colons", "--list-keys"], capture_output=True, text=True, check=True
    ).stdout
    alone = command(str(home), re.findall(r"^fpr:+(\w+)", listing, re.MULTILINE)[0])
    (HERE / "filter.pl").write_text(PERL)
    perl = ["perl", str(HERE / "filter.pl"), str(home), ADDRESS]
    multiprocessing.Process(target=store, args=("/run/seal-bench-store.sock",), daemon=True).start()
    (HERE / "state").mkdir()
    service = subprocess.Popen(
        ["agent", "seal", "--lmtp", "/run/seal-bench.sock", "--to", "/run/seal-bench-store.sock", "--home", str(home),
         "--recipients", "/none", "--folder", str(HERE / "state")], stderr=subprocess.DEVNULL
    )  # fmt: skip
    while not os.path.exists("/run/seal-bench.sock"):
        time.sleep(0.05)
    rows = []
    for label, (size, count) in SIZES.items():
        text = base64.encodebytes(random.Random(size).randbytes(size * 57 // 78)).replace(b"\n", b"\r\n")
        message = b"From: a@b\r\nTo: c@d\r\nSubject: bench\r\nContent-Type: text/plain\r\n\r\n" + text
        file = HERE / "message"
        file.write_bytes(message)
        for at_once in (1, 2):
            contest: dict[str, tuple[Callable[[int], None], Callable[[], float], int]] = {
                "gpg alone": (partial(programs, alone, file), spent_by_programs, count),
                "agent seal": (partial(deliver, message), partial(spent_by, service.pid), count),
                "Mail::GnuPG": (partial(programs, perl, file), spent_by_programs, max(2, count // 10)),
            }
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in contest}
            for _ in range(ROUNDS):
                for name, (work, spent, number) in contest.items():
                    found[name].append(measure(work, spent, number, at_once))
            medians = {
                name: [statistics.median(values) for values in zip(*each, strict=True)] for name, each in found.items()
            }
            rows.append(
                {"size": label, "at_once": at_once, "rate": {name: round(each[0], 2) for name, each in medians.items()},
                 "cpu_ms": {name: round(each[1], 2) for name, each in medians.items()}}
            )  # fmt: skip
            print(rows[-1], flush=True)
    status = Path(f"/proc/{service.pid}/status").read_text()
    peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
    service.terminate()
    service.wait()
    gpg = subprocess.run(["gpg", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    facts = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "gpg": gpg,
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    (HERE / "seal.json").write_text(json.dumps({"rows": rows, "peak_kb": peak, **facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
