"""A throw-away PostgreSQL cluster on a unix socket, for the tests of what lives in one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agent.host import Host
from agent.host.identity import effective_user
from agent.host.postgres.connections import Postgres
from agent.host.postgres.names import quote
from agent.resource import Change, Resource, differences

PROGRAMS = "/usr/lib/postgresql"
_SETTINGS = """
listen_addresses = ''
fsync = off
autovacuum = off
log_statement = all
log_duration = on
log_min_duration_statement = 0
log_min_messages = info
log_error_verbosity = verbose
max_prepared_transactions = 5
"""


def programs() -> Path:
    """The folder of the newest server's programs."""
    found = sorted(Path(PROGRAMS).glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if not found:
        pytest.fail("no PostgreSQL server is installed: apt-get install postgresql", pytrace=False)
    return found[-1].parent


@dataclass
class PostgresCluster:
    """A running cluster of its own: `etc` lists it as Debian's /etc/postgresql would."""

    folder: Path
    user: str = field(init=False)
    bin: Path = field(init=False)

    def __post_init__(self) -> None:
        self.bin = programs()
        names = {entry.pw_name for entry in pwd.getpwall()}
        self.user = (
            pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "postgres" if "postgres" in names else "nobody"
        )
        self.uid = pwd.getpwnam(self.user).pw_uid
        os.chmod(self.folder, 0o755)
        (self.folder / "run").mkdir()
        if not os.geteuid():
            os.chown(self.folder, self.uid, -1)
            os.chown(self.folder / "run", self.uid, -1)

    @property
    def name(self) -> str:
        return f"{self.bin.parent.name}/test"

    @property
    def etc(self) -> Path:
        return self.folder / "etc"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        """All that the server logged."""
        return (self.folder / "log").read_text(errors="replace")

    def program(self, *words: str) -> None:
        switch = ["setpriv", f"--reuid={self.user}", "--clear-groups", "--"] if not os.geteuid() else []
        done = subprocess.run(
            [*switch, str(self.bin / words[0]), *words[1:]],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder, check=False,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, timeout=60, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def make(self) -> None:
        """Make it, as initdb(1) does for Debian: peer authentication, UTF-8."""
        self.program("initdb", "-N", "-A", "peer", "-E", "UTF8", "--locale=C.UTF-8", "-D", str(self.data))
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(_SETTINGS + f"unix_socket_directories = '{self.folder}/run'\n")
        place = self.etc / self.name
        place.mkdir(parents=True)
        (place / "postgresql.conf").write_text(f"data_directory = '{self.data}'\t\t# where it is\nport = 1\n")

    def start(self) -> None:
        log = str(self.folder / "log")
        self.program("pg_ctl", "start", "-w", "-s", "-D", str(self.data), "-l", log)

    def stop(self, mode: str = "fast") -> None:
        self.program("pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", str(self.data))

    @contextmanager
    def connected(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        with effective_user(self.uid):
            connection = psycopg.connect(
                host=str(self.folder / "run"),
                dbname=database,
                user=self.user,
                autocommit=True,
                application_name="other",
            )
        try:
            yield connection
        finally:
            connection.close()

    def sql(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Carry statements out as the superuser; gives the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with self.connected(database) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def host(self, run_dir: Path, lock_limit: float = 10.0) -> Host:
        """A host that has this cluster and no other."""
        host = Host(run_dir=str(run_dir))
        host.postgres = Postgres(str(self.etc), lock_limit)
        return host


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    """A running cluster of its own for each module."""
    folder = Path(tempfile.mkdtemp(prefix="sa-pg-"))
    cluster = PostgresCluster(folder)
    try:
        cluster.make()
        cluster.start()
        yield cluster
    finally:
        if (cluster.data / "postmaster.pid").exists():
            cluster.stop("immediate")
        shutil.rmtree(folder)


_EMPTIED = """
DO $$ DECLARE r record; BEGIN
  FOR r IN SELECT evtname FROM pg_event_trigger LOOP EXECUTE format('DROP EVENT TRIGGER %I', r.evtname); END LOOP;
  FOR r IN SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' LOOP
    EXECUTE format('DROP EXTENSION %I CASCADE', r.extname);
  END LOOP;
  FOR r IN SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', r.nspname);
  END LOOP;
  CREATE SCHEMA public;
  GRANT USAGE ON SCHEMA public TO public;
  FOR r IN SELECT rolname FROM pg_roles WHERE oid >= 16384 LOOP
    EXECUTE format('DROP OWNED BY %I; DROP ROLE %I', r.rolname, r.rolname);
  END LOOP;
END $$
"""


@pytest.fixture
def pg(cluster: PostgresCluster, tmp_path: Path) -> Iterator[Pg]:
    """A host with the cluster, and an empty database `db`; nothing else is left in it of a test before."""
    others = [name for (name,) in cluster.sql("SELECT datname FROM pg_database WHERE oid >= 16384")]
    cluster.sql(*(f"DROP DATABASE {quote(name)} WITH (FORCE)" for name in others if name != "db"))
    if "db" not in others:
        cluster.sql("CREATE DATABASE db TEMPLATE template0")
    cluster.sql(_EMPTIED, database="db")
    host = cluster.host(tmp_path / "run")
    yield Pg(cluster, host)
    host.postgres.close()


@dataclass
class Pg:
    """What a test works with."""

    cluster: PostgresCluster
    host: Host

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.cluster.sql(*statements, database="db")

    def plan(self, resource: Resource) -> Change | None:
        """What differs, as the engine asks for it."""
        desired = resource.desired(self.host)
        return differences(resource.read(self.host), desired)

    def preview(self, resource: Resource) -> Sequence[str]:
        change = self.plan(resource)
        return [] if change is None else resource.preview(self.host, change)

    def apply(self, resource: Resource) -> Change | None:
        """Bring it about as the engine does, and see that it is done, and that a second run finds nothing."""
        change = self.plan(resource)
        if change is None:
            return None
        try:
            resource.apply(self.host, change)
        finally:
            self.host.forget()
        left = self.plan(resource)
        assert left is None, f"not converged: {left.attributes}"
        return change
