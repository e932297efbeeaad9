"""Inside the host of `tests/bench/watch` and `soak`: a site with all kinds of things, and how each is damaged.

A kind tells how to damage one of its things at once, whether that thing is as declared, and how long to leave the agent
alone in between. Things take turns: who repairs one thing more than eight times a minute rightly calls it contested.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, "/usr/lib/state-agent")
from agent.host.netfilter.events import RuleEvents

FILES = "/srv/watched"
SITE = Path("/etc/state-agent/site.toml")
CHAINS, MOUNTS, UNITS, TABLES = 50, 20, 20, 50
MNT_DETACH = 2
SCRYPT = 'options = ["-scryptn=10"]'
"""The passphrase is 32 random bytes, which need no stretching; the default takes 64 MB and most of the time."""


def run(*words: str) -> str:
    """What a program writes to stdout."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def sql(statement: str) -> str:
    return run("runuser", "-u", "postgres", "--", "psql", "-qXAt", "bench", "-c", statement)


@dataclass(frozen=True)
class Kind:
    """One kind of damage."""

    name: str
    pause: tuple[float, float]
    """Seconds between a repair and the next damage, at least and at most."""

    def things(self) -> list[str]:
        raise NotImplementedError

    def site(self) -> Iterator[str]:
        """Its part of the site."""
        raise NotImplementedError

    def damage(self, thing: str, chance: random.Random) -> None:
        raise NotImplementedError

    def is_whole(self, thing: str) -> bool:
        raise NotImplementedError

    def repaired_since(self, thing: str, chance: random.Random, limit: float) -> float:
        """Damage it, and give the seconds until it was seen whole again. Raises TimeoutError."""
        started = time.perf_counter()
        self.damage(thing, chance)
        while not self.is_whole(thing):
            if time.perf_counter() - started > limit:
                raise TimeoutError(f"{thing} is not repaired within {limit:g} s")
            time.sleep(0.0005)
        return time.perf_counter() - started


@dataclass(frozen=True)
class Files(Kind):
    """Written to, deleted, replaced, its mode changed."""

    count: int

    def things(self) -> list[str]:
        return [f"{FILES}/{number // 100:03d}/{number:05d}" for number in range(self.count)]

    def site(self) -> Iterator[str]:
        folders = sorted({os.path.dirname(path) for path in self.things()})
        yield from (f'[directory."{folder}"]\n' for folder in (FILES, *folders))
        for path in self.things():
            yield f'[file."{path}"]\nmode = "0644"\ncontent = """\n{content(path)}"""\n'

    def damage(self, thing: str, chance: random.Random) -> None:
        how = chance.randrange(4)
        if how == 0:
            with open(thing, "a") as file:
                file.write("damage\n")
        elif how == 1:
            os.unlink(thing)
        elif how == 2:
            Path(f"{FILES}/../replacement").write_text("damage\n")
            os.rename(f"{FILES}/../replacement", thing)
        else:
            os.chmod(thing, 0o600)

    def is_whole(self, thing: str) -> bool:
        try:
            with open(thing) as file:
                return file.read() == content(thing) and os.fstat(file.fileno()).st_mode & 0o777 == 0o644
        except FileNotFoundError:
            return False


def content(path: str) -> str:
    return "".join(f"option_{line} = value {path}\n" for line in range(12))


@dataclass(frozen=True)
class Rules(Kind):
    """One rule of a chain is deleted. What is timed is between the kernel's two notices: of that, and of the repair."""

    def things(self) -> list[str]:
        return [str(2000 + number) for number in range(CHAINS)]

    def site(self) -> Iterator[str]:
        for port in self.things():
            yield f'[iptables.r{port}]\nchain = "INPUT"\nrules = ["-p tcp --dport {port} -j ACCEPT"]\n'

    def damage(self, thing: str, chance: random.Random) -> None:
        run(*self._deletion(thing))

    def _deletion(self, thing: str) -> list[str]:
        command = "iptables" if thing[-1] in "02468" else "ip6tables"
        mark = ["-m", "comment", "--comment", f"state-agent:r{thing}"]
        return [command, "-D", "state-agent-INPUT", "-p", "tcp", *mark, "-m", "tcp", "--dport", thing, "-j", "ACCEPT"]

    def is_whole(self, thing: str) -> bool:
        command = "iptables" if thing[-1] in "02468" else "ip6tables"
        return f"--dport {thing} " in run(command, "-S", "state-agent-INPUT")

    def repaired_since(self, thing: str, chance: random.Random, limit: float) -> float:
        notices, deadline, started = RuleEvents(), time.perf_counter() + limit, 0.0
        deleting = subprocess.Popen(self._deletion(thing))
        try:
            while (now := time.perf_counter()) < deadline:
                if not notices.read():
                    time.sleep(0.0005)
                elif not started:
                    started = now
                elif self.is_whole(thing):
                    return now - started
        finally:
            deleting.wait()
            notices.close()
        raise TimeoutError(f"the rule of port {thing} is not repaired within {limit:g} s")


@dataclass(frozen=True)
class Mounts(Kind):
    """umount -l."""

    def things(self) -> list[str]:
        return [f"/srv/mounts/{number}" for number in range(MOUNTS)]

    def site(self) -> Iterator[str]:
        yield '[secrets.store]\ngenerate = 32\n[directory."/srv/mounts"]\n'
        for path in self.things():
            yield f'[gocryptfs."{path}"]\ncipher = "{path}.cipher"\npassphrase = "{{{{ secrets.store }}}}"\n{SCRYPT}\n'

    def damage(self, thing: str, chance: random.Random) -> None:
        if ctypes.CDLL(None, use_errno=True).umount2(thing.encode(), MNT_DETACH):
            raise OSError(ctypes.get_errno(), "umount2", thing)

    def is_whole(self, thing: str) -> bool:
        return os.path.ismount(thing)


@dataclass(frozen=True)
class Units(Kind):
    """systemctl stop. What is timed begins when the unit is at rest, which is before systemctl returns."""

    def things(self) -> list[str]:
        return [f"bench{number}" for number in range(UNITS)]

    def site(self) -> Iterator[str]:
        for name in self.things():
            text = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n"
            yield f'[file."/etc/systemd/system/{name}.service"]\ncontent = "{text}"\n[service.{name}]\n'

    def damage(self, thing: str, chance: random.Random) -> None:
        run("systemctl", "stop", thing)

    def is_whole(self, thing: str) -> bool:
        """Whether systemd says that it runs; of a file that systemd itself keeps, so that asking costs nothing."""
        return os.path.lexists(f"/run/systemd/units/invocation:{thing}.service")

    def repaired_since(self, thing: str, chance: random.Random, limit: float) -> float:
        stopping = subprocess.Popen(["systemctl", "stop", thing])
        deadline, stopped = time.perf_counter() + limit, 0.0
        while time.perf_counter() < deadline:
            up = self.is_whole(thing)
            if not up:
                stopped = stopped or time.perf_counter()
            elif stopped:
                taken = time.perf_counter() - stopped
                stopping.wait()
                return taken
            time.sleep(0.0003)
        raise TimeoutError(f"{thing} is not started within {limit:g} s")


@dataclass(frozen=True)
class Tables(Kind):
    """An index or a column is dropped. Timed from before the statement is sent."""

    def things(self) -> list[str]:
        return [f"t{number}" for number in range(TABLES)]

    def site(self) -> Iterator[str]:
        yield "[postgres_database.bench]\n"
        for name in self.things():
            yield f'[postgres_table."bench.public.{name}"]\nprimary_key = ["id"]\nindexes = [{{ name = "{name}_i",'
            yield ' columns = ["email"] }]\ncolumns = { id = "bigint", email = "text", quota = "int" }\n'

    def damage(self, thing: str, chance: random.Random) -> None:
        self._do(f"DROP INDEX {thing}_i" if chance.randrange(2) else f"ALTER TABLE {thing} DROP COLUMN quota")

    def is_whole(self, thing: str) -> bool:
        found = self._do(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
            " UNION ALL SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass",
            (thing, thing),
        ).fetchall()
        return [count for (count,) in found] == [3, 2]

    def _do(self, statement: str, values: tuple[str, ...] = ()) -> Any:
        return session().execute(statement, values or None)


_session: list[Any] = []


def session() -> Any:
    """One connection to the database."""
    if not _session:
        import psycopg

        os.setegid(int(run("id", "-g", "postgres")))
        os.seteuid(int(run("id", "-u", "postgres")))
        try:
            _session.append(psycopg.connect("dbname=bench", autocommit=True))
        finally:
            os.seteuid(0)
            os.setegid(0)
    return _session[0]


RULES = Rules("iptables rule", (0.1, 0.2))
STORES = Mounts("mount", (0.3, 0.5))
SERVICES = Units("unit", (0.7, 0.9))
"""The pause is longer than the half second for which the agent sees whether what it started stays alive."""
SCHEMA = Tables("Postgres DDL", (0.3, 0.5))


def files(count: int) -> Files:
    return Files(f"files, {count:,} watched", (0.02, 0.06), count)


def declare(*kinds: Kind) -> int:
    """Write the site; gives how many resources it has."""
    text = "".join(part for kind in kinds for part in kind.site())
    SITE.parent.mkdir(exist_ok=True)
    SITE.write_text(text)
    return sum(line.startswith("[") and not line.startswith("[secrets") for line in text.splitlines())


def start() -> None:
    """Start the agent on the site as it stands, and wait until all is as declared."""
    run("agent", "apply", "--quiet")
    run("systemctl", "restart", "state-agent")
    deadline = time.monotonic() + 300
    while subprocess.run(["agent", "status", "--quiet"], check=False).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError(run("agent", "status"))
        time.sleep(0.1)


def clear() -> None:
    """Nothing is declared any more, and the files are gone."""
    run("systemctl", "stop", "state-agent")
    shutil.rmtree(FILES, ignore_errors=True)
