"""A site with everything of PostgreSQL in it, from outside: from nothing, drift, secrets, removal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from postgres_cluster import Pg, cluster, pg  # noqa: F401

from agent.declaration.compile import compile_site

pytestmark = pytest.mark.xdist_group("postgres")
CANARY = "canary-Zz9-password"
SITE = """
[site]
states = ["store"]
[secrets.vmail]
file = "secret"
[values.store]
cluster = "CLUSTER"
"""
STATE = """
[state]
summary = "Accounts in PostgreSQL"
[parameters.cluster]
type = "string"

[service.dovecot]
when = "{{ false }}"

[postgres_rows."mail.app.accounts"]
key = ["email"]
exclusive = true
cluster = "{{ cluster }}"
rows = [{ email = "a@example.net", quota = 5, password = "{SCHEME}{{ secrets.vmail }}", domain = 1 }]

[postgres_rows."mail.app.domains"]
key = ["id"]
cluster = "{{ cluster }}"
rows = [{ id = 1, name = "example.net" }]

[postgres_table."mail.app.accounts"]
primary_key = ["email"]
owner = "owner"
cluster = "{{ cluster }}"
grants = { vmail = ["select"] }
indexes = ["lower(email::text)"]
[postgres_table."mail.app.accounts".columns]
email = "citext"
quota = { type = "int4", default = 0, null = false, check = "quota >= 0" }
password = "text"
domain = { type = "int", references = "domains(id) on delete cascade" }

[postgres_table."mail.app.domains"]
primary_key = ["id"]
cluster = "{{ cluster }}"
columns = { id = "int", name = { type = "text", unique = true } }

[postgres_database.mail]
owner = "owner"
encoding = "utf8"
locale = "C.UTF-8"
extensions = ["citext"]
cluster = "{{ cluster }}"

[postgres_role.vmail]
login = true
password = "{{ secrets.vmail }}"
member_of = ["owner"]
cluster = "{{ cluster }}"

[postgres_role.owner]
cluster = "{{ cluster }}"
"""


class Site:
    """The site and `agent` run on it; keeps all that it said."""

    def __init__(self, folder: Path, data: str) -> None:
        self.folder = folder
        self.said = ""
        (folder / "states/store").mkdir(parents=True)
        (folder / "site.toml").write_text(SITE.replace("CLUSTER", data))
        (folder / "states/store/state.toml").write_text(STATE)
        (folder / "secret").write_text(CANARY)

    def run(self, *words: str, code: int) -> str:
        root = str(Path(__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-m", "agent", *words, "--site", str(self.folder / "site.toml")],
            capture_output=True, text=True, timeout=60, check=False, cwd=self.folder,
            env={**os.environ, "PYTHONPATH": root, "AGENT_STATE_DIR": str(self.folder / "kept")},
        )  # fmt: skip
        text = done.stdout + done.stderr
        self.said += text
        assert done.returncode == code, text
        return done.stdout

    def outcomes(self, *words: str, code: int) -> dict[str, Any]:
        rows = json.loads(self.run(*words, "--json", code=code))["resources"]
        return {row["id"]: row["outcome"] for row in rows if row["outcome"] != "in-desired-state"}


@pytest.fixture
def site(pg: Pg, tmp_path: Path) -> Site:  # noqa: F811
    return Site(tmp_path, str(pg.cluster.data))


def test_the_order_follows_from_what_each_needs(site: Site) -> None:
    entries = compile_site(site.folder / "site.toml", None)[0].entries
    assert [entry.id for entry in entries] == [
        "postgres_role:owner", "postgres_database:mail", "postgres_table:mail.app.domains",
        "postgres_rows:mail.app.domains", "postgres_role:vmail", "postgres_table:mail.app.accounts",
        "postgres_rows:mail.app.accounts",
    ]  # fmt: skip


def test_from_nothing_to_drift_and_back(pg: Pg, site: Site) -> None:  # noqa: F811
    start = len(pg.cluster.log)
    planned = site.outcomes("apply", "--check", code=2)
    assert planned["postgres_database:mail"] == "would-add"
    assert planned["postgres_table:mail.app.accounts"] == "unknown"
    assert set(site.outcomes("apply", code=0).values()) == {"added"}
    assert site.outcomes("apply", "--check", code=0) == {}
    assert pg.cluster.sql("SELECT email, quota, password FROM app.accounts", database="mail") == [
        ("a@example.net", 5, "{SCHEME}" + CANARY)
    ]
    pg.cluster.sql(
        "ALTER TABLE app.accounts ALTER quota DROP DEFAULT, DROP CONSTRAINT accounts_quota_check",
        "GRANT SELECT, DELETE ON app.accounts TO public",
        "UPDATE app.accounts SET password = 'x', quota = 7",
        "INSERT INTO app.accounts VALUES ('intruder@example.net', 1)",
        "ALTER ROLE vmail SUPERUSER PASSWORD 'other'",
        database="mail",
    )
    shown = site.run("apply", "--check", code=2)
    for line in (
        "columns.quota.default (none) → 0",
        'ALTER TABLE "app"."accounts" ALTER COLUMN "quota" SET DEFAULT 0',
        'REVOKE DELETE, SELECT ON TABLE "app"."accounts" FROM PUBLIC CASCADE',
        """DELETE FROM "app"."accounts" WHERE (("email") IN (('a@example.net'))) IS NOT TRUE""",
        """UPDATE "app"."accounts" SET "quota" = '5', "password" = '(sensitive)' WHERE "email" = 'a@example.net'""",
        'ALTER ROLE "vmail" NOSUPERUSER',
    ):
        assert line in " ".join(shown.split())
    drifted = site.outcomes("apply", code=0)
    assert drifted == dict.fromkeys(
        ["postgres_role:vmail", "postgres_table:mail.app.accounts", "postgres_rows:mail.app.accounts"], "changed"
    )
    assert site.outcomes("apply", "--check", code=0) == {}
    site.run("log", "2", code=0)
    site.run("show", "--json", code=0)
    assert CANARY not in site.said
    assert CANARY not in pg.cluster.log[start:]
    for path in site.folder.rglob("*"):
        if path.is_file() and path.name != "secret":
            assert CANARY.encode() not in path.read_bytes(), path


def test_what_was_made_is_undone_where_that_was_asked_for(pg: Pg, site: Site) -> None:  # noqa: F811
    state = site.folder / "states/store/state.toml"
    text = state.read_text()
    undone = text.replace('cluster = "{{ cluster }}"', 'cluster = "{{ cluster }}"\non_removal = "undo"')
    undone = undone.replace('password = "{SCHEME}{{ secrets.vmail }}", ', "")
    state.write_text(undone)
    site.run("apply", code=0)
    state.write_text('[state]\nsummary = "nothing"\n[parameters.cluster]\ntype = "string"\n')
    site.run("apply", code=0)
    assert pg.sql("SELECT 1 FROM pg_database WHERE datname = 'mail'") == []
    assert pg.sql("SELECT 1 FROM pg_roles WHERE rolname IN ('vmail', 'owner')") == []


CIRCLE = """
[state]
summary = "Tables that refer to one another in a circle"
[parameters.cluster]
type = "string"

[postgres_database.mail]
cluster = "{{ cluster }}"
"""
LINK = """
[postgres_table."mail.app.NAME"]
primary_key = ["id"]
owner = "owner"
cluster = "{{ cluster }}"
[postgres_table."mail.app.NAME".columns]
id = "int"
next = { type = "int", references = "NEXT(id) on delete set null" }
self = { type = "int", references = "app.NAME" }
"""


def test_a_circle_of_tables_is_closed_by_the_last(pg: Pg, site: Site) -> None:  # noqa: F811
    names = ("one", "two", "three")
    links = [LINK.replace("NAME", name).replace("NEXT", names[i - 2]) for i, name in enumerate(names)]
    role = '[postgres_role.owner]\ncluster = "{{ cluster }}"\n'
    (site.folder / "states/store/state.toml").write_text(CIRCLE + role + "".join(links))
    (site.folder / "site.toml").write_text(SITE.replace("CLUSTER", str(pg.cluster.data)).partition("[secrets")[0] +
                                           f'[values.store]\ncluster = "{pg.cluster.data}"\n')  # fmt: skip
    assert set(site.outcomes("apply", code=0).values()) == {"added"}
    assert site.outcomes("apply", "--check", code=0) == {}
    keys = "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
    found = pg.cluster.sql(keys, database="mail")
    assert len(found) == len(set(found)) == 6
    rows = "INSERT INTO app.one VALUES (1); INSERT INTO app.three VALUES (1, 1)"
    pg.cluster.sql(f"SET ROLE owner; {rows}", database="mail")
    pg.cluster.sql("DROP TABLE app.two CASCADE", database="mail")
    assert "REFERENCES" in site.run("apply", "--check", code=2)
    assert site.outcomes("apply", code=0) == {
        "postgres_table:mail.app.two": "added", "postgres_table:mail.app.one": "changed",
    }  # fmt: skip
    assert site.outcomes("apply", "--check", code=0) == {}
    # The whole circle goes back, where nothing is stored in it.
    pg.cluster.sql("TRUNCATE app.one, app.two, app.three", database="mail")
    site.run("rollback", "1", "--yes", code=0)
    assert pg.sql("SELECT 1 FROM pg_database WHERE datname = 'mail'") == []
    site.outcomes("apply", code=0)
    state = site.folder / "states/store/state.toml"
    state.write_text(state.read_text().replace("cluster =", 'on_removal = "undo"\ncluster ='))
    site.outcomes("apply", code=0)
    state.write_text('[state]\nsummary = "nothing"\n[parameters.cluster]\ntype = "string"\n')
    site.run("apply", code=0)
    assert pg.sql("SELECT 1 FROM pg_database WHERE datname = 'mail'") == []


def test_a_server_that_is_down_is_told_once_for_each(pg: Pg, site: Site) -> None:  # noqa: F811
    (site.folder / "site.toml").write_text(SITE.replace("CLUSTER", str(site.folder / "nowhere")))
    shown = site.run("apply", "--check", code=1)
    assert f"no PostgreSQL server runs on {site.folder}/nowhere" in shown
