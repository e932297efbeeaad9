"""The resident agent with a real PostgreSQL cluster: DDL, roles, databases and rows are put right as they happen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_cluster import PostgresCluster, cluster  # noqa: F401
from residence import Residence, counting

from agent.resources.postgres_database import PostgresDatabase
from agent.resources.postgres_table import PostgresTable
from agent.watch.events import BLIND

pytestmark = pytest.mark.xdist_group("postgres")

SITE = """
[postgres_role.reader]
login = true
cluster = "CLUSTER"
[postgres_database.kept]
cluster = "CLUSTER"
[postgres_table."kept.public.t"]
primary_key = ["id"]
cluster = "CLUSTER"
indexes = ["lower(name)"]
grants = { reader = ["select"] }
[postgres_table."kept.public.t".columns]
id = "int"
name = { type = "text", null = false }
[postgres_rows."kept.public.t"]
key = ["id"]
cluster = "CLUSTER"
rows = [{ id = 1, name = "one" }]
"""

DAMAGES: dict[str, tuple[str, str, str]] = {
    "a column's constraint": ("kept", "ALTER TABLE t ALTER name DROP NOT NULL", "postgres_table:kept.public.t"),
    "an index": ("kept", "DROP INDEX t_lower_idx", "postgres_table:kept.public.t"),
    "a grant": ("kept", "REVOKE SELECT ON t FROM reader", "postgres_table:kept.public.t"),
    "a row deleted": ("kept", "DELETE FROM t WHERE id = 1", "postgres_rows:kept.public.t"),
    "a row changed": ("kept", "UPDATE t SET name = 'other'", "postgres_rows:kept.public.t"),
    "a role": ("postgres", "ALTER ROLE reader NOLOGIN", "postgres_role:reader"),
    "a database": ("postgres", "DROP DATABASE kept WITH (FORCE)", "postgres_database:kept"),
}


@pytest.fixture(scope="module")
def place(cluster: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Residence]:  # noqa: F811
    folder = tmp_path_factory.mktemp("watch")
    (folder / "site.toml").write_text(SITE.replace("CLUSTER", str(cluster.data)))
    residence = Residence(folder)
    residence.settle()
    assert residence.agent.state.summary == {"in-desired-state": 4}, residence.said
    yield residence
    residence.agent.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_seen_and_put_right(place: Residence, cluster: PostgresCluster, damage: str) -> None:  # noqa: F811
    database, statement, id = DAMAGES[damage]
    known, rounds = len(place.changes()), place.rounds
    cluster.sql(statement, database=database)
    place.until(lambda: (id, "drift", "done") in place.changes()[known:])
    place.settle()
    assert place.agent.state.summary == {"in-desired-state": 4}, place.said
    if "database" not in damage:
        assert [change[0] for change in place.changes()[known:]] == [id]
        assert place.rounds <= rounds + 3


def test_what_happens_elsewhere_reads_no_table(place: Residence, cluster: PostgresCluster) -> None:  # noqa: F811
    rounds = place.rounds
    cluster.sql("CREATE TABLE elsewhere (x int)", "INSERT INTO elsewhere VALUES (1)", "DROP TABLE elsewhere")
    cluster.sql("CREATE TEMP TABLE passing (x int)", database="kept")
    place.settle()
    assert place.rounds == rounds


def test_connections_are_given_up(
    place: Residence,
    cluster: PostgresCluster,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.watch.agent._IDLE", 0.1)
    cluster.sql("UPDATE t SET name = 'x'", database="kept")
    place.settle()
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'state-agent'"
    place.until(lambda: cluster.sql(others) == [(0,)])


def test_only_the_table_that_changed_is_read(
    cluster: PostgresCluster,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Also after its repair: what the agent does to one table is no event for those beside it."""
    folder = tmp_path_factory.mktemp("tables")
    tables = "".join(
        f'[postgres_table."many.public.t{number}"]\ncluster = "CLUSTER"\nprimary_key = ["id"]\n'
        f'columns = {{ id = "int", of = {{ type = "int", references = "t{max(0, number - 1)}(id)" }}, n = "text" }}\n'
        for number in range(5)
    )
    site = f'[postgres_database.many]\ncluster = "CLUSTER"\n{tables}'
    (folder / "site.toml").write_text(site.replace("CLUSTER", str(cluster.data)))
    residence = Residence(folder)
    residence.settle()
    known, rounds = len(residence.changes()), residence.rounds
    with counting(PostgresTable, PostgresDatabase) as counted:
        cluster.sql("ALTER TABLE t3 DROP COLUMN n", database="many")
        residence.until(lambda: len(residence.changes()) > known)
        residence.settle()
    assert residence.changes()[known:] == [("postgres_table:many.public.t3", "drift", "done")]
    assert set(counted.read) == {"postgres_table:many.public.t3"}
    assert residence.rounds == rounds + 1
    with counting(PostgresTable) as counted:
        cluster.sql("ALTER TABLE t1 RENAME COLUMN id TO key", database="many")
        residence.until(lambda: "postgres_table:many.public.t2" in counted.read)  # its foreign key names that column
    residence.agent.close()


def test_a_server_that_was_down_is_watched_as_soon_as_it_is_back(
    cluster: PostgresCluster,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("down")
    (folder / "site.toml").write_text(
        '[postgres_role.back]\ncluster = "CLUSTER"\n'.replace("CLUSTER", str(cluster.data))
    )
    cluster.stop()
    try:
        residence = Residence(folder)
        residence.until(lambda: residence.agent.state.summary.get("failed") == 1)
        residence.settle()
        assert any(text.startswith("postgresql: no events") for text in residence.said)
    finally:
        cluster.start()
    residence.until(lambda: residence.agent.state.summary == {"in-desired-state": 1}, limit=40)
    residence.settle()
    cluster.sql("ALTER ROLE back SUPERUSER")
    residence.until(lambda: ("postgres_role:back", "drift", "done") in residence.changes(), limit=BLIND / 2)
    residence.agent.close()
