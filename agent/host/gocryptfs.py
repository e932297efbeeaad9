"""gocryptfs: making a cipher directory, mounting it, and the daemons that serve the mounts (gocryptfs(1)).

The passphrase reaches gocryptfs by a pipe and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import string
from collections.abc import Sequence
from pathlib import Path

from agent.errors import CommandFailed, ResourceError
from agent.host.ownthread import confined
from agent.host.paths import refused
from agent.host.run import Result, failure, run
from agent.host.systemd.units import BOOTED

TYPE = "fuse.gocryptfs"
CONFIG = "gocryptfs.conf"
_WRONG_PASSPHRASE = 12
_LIMIT = 300.0
_SHOWN = 3
_PLAIN = {byte: bytes([byte]) for byte in string.ascii_letters.encode() + string.digits.encode() + b":_."} | {
    0x2F: b"-"
}

FOR_INIT = frozenset(
    ("aessiv", "deterministic-names", "hkdf", "longnamemax", "longnames", "plaintextnames", "raw64", "scryptn",
     "xchacha")
)  # fmt: skip
"""Options that a cipher directory is made with, and that it keeps."""
OWN = frozenset(
    ("allow_other", "e", "ew", "exclude", "exclude-from", "exclude-wildcard", "extpass", "f", "fg", "fido2", "fsck",
     "fsname", "hh", "help", "h", "info", "init", "masterkey", "nonempty", "nosyslog", "notifypid", "passfile",
     "passwd", "reverse", "speed", "version", "zerokey")
)  # fmt: skip
"""Options that are not for a declaration: they stand for fields, do something else, or would give secrets away."""
_HIDDEN = frozenset(("allow_other", "extpass", "f", "fg", "masterkey", "notifypid", "passfile", "q", "quiet"))
_TAKE_A_WORD = frozenset(
    ("config", "context", "cpuprofile", "ctlsock", "extpass", "fido2", "force_owner", "fsname", "i", "idle", "ko",
     "longnamemax", "masterkey", "memprofile", "notifypid", "o", "passfile", "scryptn", "trace")
)  # fmt: skip


def option_name(option: str) -> str:
    """The bare name of an option such as `--scryptn=17`."""
    return option.lstrip("-").partition("=")[0]


def source_of(cipher: str) -> str:
    """What mountinfo calls the source of a mount: the cipher directory, without what would part mount options."""
    return cipher.replace(",", "_")


def is_made(cipher: str) -> bool:
    """Whether the cipher directory has been made; False where it is empty or not there.

    Raises ResourceError where something else is in its place.
    """
    try:
        held = os.listdir(cipher)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise ResourceError(f"{cipher} is not a folder", hint="name another place as cipher") from None
    except OSError as error:
        raise refused(cipher, error) from None
    if CONFIG in held:
        return True
    if "gocryptfs.diriv" in held:
        raise ResourceError(
            f"{cipher} holds encrypted files, but its {CONFIG} is gone",
            hint="put it back from a backup; without it, only the master key opens these files (gocryptfs -masterkey)",
        )
    if held:
        raise ResourceError(
            f"{cipher} is not empty, and no gocryptfs directory: it has no {CONFIG}",
            detail=f"it holds {listed(held)}; nothing was touched",
            hint="name an empty or new folder as cipher, or move away what it holds",
        )
    return False


def lost(cipher: str) -> ResourceError:
    """The error for a cipher directory that was there and is not: a new one would hide that."""
    return ResourceError(
        f"{cipher} is gone, with all that was in it: it was made and mounted before",
        detail="no new one is made in its place: that would be empty, and what is written to it would lie apart",
        hint=f"is its disk mounted? Where it is lost for good, begin anew by hand: gocryptfs -init {cipher}",
    )


def listed(names: Sequence[str]) -> str:
    """The first of these names."""
    more = [f"{len(names) - _SHOWN} more"] * (len(names) > _SHOWN)
    return ", ".join([*sorted(names)[:_SHOWN], *more])


def make(cipher: str, passphrase: str, options: Sequence[str]) -> None:
    """Make a cipher directory in an empty folder."""
    run(["gocryptfs", "-init", "-q", *options, "--", cipher], stdin=passphrase + "\n", timeout=_LIMIT)


def master_key(cipher: str, passphrase: str) -> str:
    """The master key of a cipher directory. Raises ResourceError where the passphrase does not open it."""
    config = os.path.join(cipher, CONFIG)
    dump = ["gocryptfs-xray", "-dumpmasterkey", config]
    result = run(dump, stdin=passphrase + "\n", timeout=_LIMIT, accept=None)
    if "authentication failed" in result.stderr:
        raise _wrong_passphrase(cipher)
    if not result.ended_well:
        raise failure(" ".join(dump), Result(result.status, "", result.stderr))
    return result.stdout.strip()


def mount(cipher: str, path: str, passphrase: str, options: Sequence[str]) -> None:
    """Mount a cipher directory. Raises ResourceError where the passphrase does not open it."""
    words = [*_in_a_scope(path), "gocryptfs", "-q", *options, "--", cipher, path]
    try:
        confined(lambda: run(words, stdin=passphrase + "\n", timeout=_LIMIT))
    except CommandFailed as error:
        raise _explained(error, cipher) from None


def _explained(error: CommandFailed, cipher: str) -> ResourceError:
    if error.status == _WRONG_PASSPHRASE:
        return _wrong_passphrase(cipher)
    if not os.path.exists("/dev/fuse"):
        return ResourceError("this host has no FUSE: /dev/fuse is not there", detail=error.detail, hint="modprobe fuse")
    return error


def _wrong_passphrase(cipher: str) -> ResourceError:
    return ResourceError(
        f"the passphrase does not open {cipher}",
        hint=f"declare the one that it was made with, or change it: gocryptfs -passwd {cipher}",
    )


def _in_a_scope(path: str) -> list[str]:
    """What to start the daemon with, so that it is not ended together with the unit that the agent runs in.

    (KillMode= in systemd.kill(5).) At shutdown the scope goes after the mount, and so after those who need that.
    """
    if not os.path.isdir(BOOTED):
        return []
    about = ["--description=gocryptfs on " + path, f"--property=Before={unit_of(path)}"]
    return ["systemd-run", "--scope", "--quiet", "--collect", *about, "--"]


def unit_of(path: str) -> str:
    """The unit that systemd makes of a mount point ("String escaping" in systemd.unit(5))."""
    name = os.fsencode(os.path.normpath(path)).strip(b"/")
    plain = b"".join(_PLAIN.get(byte, b"\\x%02x" % byte) for byte in name)
    plain = b"\\x2e" + plain[1:] if plain.startswith(b".") else plain
    return f"{plain.decode() or '-'}.mount"


def options_in_use(path: str) -> list[str] | None:
    """The options that the daemon serving a mount was started with, sorted; None where it is not seen."""
    for _, words in _daemons():
        options, places = _parsed(words)
        if len(places) == 2 and places[1] == path:
            return options
    return None


def daemon_of(path: str) -> int | None:
    """The process that serves a mount; None where it is not seen."""
    return next((pid for pid, words in _daemons() if _parsed(words)[1][1:] == [path]), None)


def _daemons() -> list[tuple[int, list[str]]]:
    """All daemons and their command lines, the youngest first: one whose mount is gone lives on for a moment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "comm").read_bytes() == b"gocryptfs\n":
                words = os.fsdecode((folder / "cmdline").read_bytes()).split("\0")[:-1]
                if words:
                    words[-1] = os.path.normpath(os.path.join(os.readlink(folder / "cwd"), words[-1]))
                    found.append((_started(folder), int(folder.name), words))
    return [(pid, words) for _, pid, words in sorted(found, reverse=True)]


def _started(folder: Path) -> int:
    """When a process started, in ticks since boot (field 22 of proc_pid_stat(5))."""
    return int((folder / "stat").read_text().rpartition(")")[2].split()[19])


def _parsed(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of a command line, without those that are hidden or stand for a field, and its other words."""
    options, places = [], []
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-"):
            places.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not name:
            continue
        if name in _TAKE_A_WORD and not equals:
            value, equals = next(rest, ""), "="
        if name not in _HIDDEN:
            options.append(f"-{name}{equals}{value}")
    return sorted(options), places
