"""Databases of PostgreSQL, and the clusters that they are in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_cluster import Pg, PostgresCluster, cluster, pg  # noqa: F401

from agent.declaration.schema import validated
from agent.errors import Missing, NotPermitted, ResourceError
from agent.host import Host
from agent.host.identity import effective_user
from agent.host.postgres.connections import Postgres
from agent.resources.postgres_database import PostgresDatabase

pytestmark = pytest.mark.xdist_group("postgres")


def database(name: str = "mail", **fields: Any) -> PostgresDatabase:
    """A database as a site declares it, through the schema."""
    found = validated("postgres_database", {"name": name, **fields}, set())
    assert isinstance(found, dict), found
    return PostgresDatabase(**found)


def test_from_nothing_and_back(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE ROLE vmail")
    full: dict[str, Any] = {"owner": "vmail", "encoding": "utf-8", "locale": "C.utf8"}
    full["extensions"] = ["citext", "hstore"]
    assert pg.preview(database(**full)) == [
        """CREATE DATABASE "mail" OWNER "vmail" ENCODING 'utf-8' LOCALE 'C.utf8' TEMPLATE template0""",
        'CREATE EXTENSION "citext" CASCADE',
        'CREATE EXTENSION "hstore" CASCADE',
    ]
    assert pg.apply(database(**full)) is not None
    assert pg.cluster.sql("SELECT extname FROM pg_extension ORDER BY 1", database="mail") == [
        ("citext",), ("hstore",), ("plpgsql",)
    ]  # fmt: skip
    assert pg.plan(database(encoding="UTF8", locale="C.UTF-8")) is None
    assert pg.plan(database()) is None
    pg.cluster.sql("DROP EXTENSION citext", "CREATE EXTENSION btree_gin", database="mail")
    pg.sql(f"ALTER DATABASE mail OWNER TO {pg.cluster.user}")
    pg.host.forget()
    change = pg.apply(database(**full))
    assert change is not None
    assert {each.attribute for each in change.attributes} == {"owner", "extensions"}
    assert ("btree_gin",) in pg.cluster.sql("SELECT extname FROM pg_extension", database="mail")
    assert pg.apply(database(ensure="absent")) is not None
    assert pg.plan(database(ensure="absent")) is None


def test_an_extension_that_is_not_there(pg: Pg) -> None:  # noqa: F811
    with pytest.raises(ResourceError, match='extension "nope" is not available') as error:
        pg.apply(database(extensions=["nope"]))
    assert error.value.hint


@pytest.mark.parametrize("fields", [{"encoding": "LATIN1"}, {"locale": "POSIX"}])
def test_what_would_need_recreating_is_told(pg: Pg, fields: dict[str, str]) -> None:  # noqa: F811
    pg.apply(database(encoding="UTF8", locale="C.UTF-8"))
    wrong = database(**fields)
    change = pg.plan(wrong)
    assert change is not None
    assert "refused" in wrong.summary(pg.host, change)
    with pytest.raises(ResourceError, match="would need to be made again"):
        pg.apply(wrong)
    with pytest.raises(ResourceError, match='knows no encoding "nope"'):
        pg.plan(database(encoding="nope"))


def test_a_database_in_use_is_not_dropped(pg: Pg) -> None:  # noqa: F811
    pg.apply(database())
    gone = database(ensure="absent")
    with pg.cluster.connected("mail") as other:
        with pytest.raises(ResourceError, match="is not dropped: 1 connected") as error:
            pg.apply(gone)
        assert f"process {other.info.backend_pid} of {pg.cluster.user} (other)" in str(error.value)
    pg.host.postgres.server(None).session("mail").rows("SELECT 1")  # the agent's own connection is no hindrance
    assert pg.apply(gone) is not None


@pytest.mark.parametrize("name", ["Mixed Case", 'quo"te', "dash-ed", "ünïcode", "dot.ted", "per%s", "a'b", "select"])
def test_names_of_all_kinds(pg: Pg, name: str) -> None:  # noqa: F811
    assert pg.apply(database(name, extensions=["citext"])) is not None
    assert pg.apply(database(name, ensure="absent")) is not None


def test_undo(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE ROLE vmail", "CREATE ROLE other")
    pg.apply(database(owner="vmail"))
    resource = database(owner="other")
    before = resource.read(pg.host)
    pg.apply(resource)
    resource.undo(pg.host, before)
    pg.host.forget()
    assert pg.plan(database(owner="vmail")) is None
    pg.cluster.sql("CREATE TABLE t (a int)", database="mail")
    with pytest.raises(ResourceError, match="holds 1 tables or"):
        resource.undo(pg.host, None)
    pg.cluster.sql("DROP TABLE t", database="mail")
    resource.undo(pg.host, None)
    pg.host.forget()
    assert pg.plan(database(ensure="absent")) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "x" * 64}, "longer than 63 bytes"),
        ({"name": "template1"}, "not managed"),
        ({"name": "postgres", "ensure": "absent"}, "not dropped"),
        ({"name": "a", "ensure": "absent", "owner": "x"}, "owner has no meaning"),
    ],
)
def test_what_cannot_be_declared(fields: dict[str, Any], words: str) -> None:
    problems = validated("postgres_database", fields, set())
    assert isinstance(problems, list)
    assert words in problems[0].message


def test_it_comes_after_what_it_needs() -> None:
    assert list(database(owner="vmail").implied_requires()) == [
        "apt:postgresql", "service:postgresql", "service:postgresql.service", "postgres_role:vmail"
    ]  # fmt: skip


# Clusters


def reached(host: Host, wanted: str | None = None) -> Any:
    return host.postgres.server(wanted).main.rows("SELECT current_user::text")[0][0]


def test_a_cluster_by_name_by_folder_and_as_the_only_one(pg: Pg) -> None:  # noqa: F811
    for wanted in (None, pg.cluster.name, str(pg.cluster.data)):
        assert reached(pg.host, wanted) == pg.cluster.user


def test_acting_as_another_user_ends_with_the_connection(pg: Pg) -> None:  # noqa: F811
    before = os.getresuid(), os.getresgid()
    reached(pg.host)
    with pytest.raises(ZeroDivisionError), effective_user(pg.cluster.uid):
        assert os.geteuid() == pg.cluster.uid
        raise ZeroDivisionError
    assert (os.getresuid(), os.getresgid()) == before


def test_no_cluster_another_cluster_and_one_that_is_down(pg: Pg, tmp_path: Path) -> None:  # noqa: F811
    host = Host()
    host.postgres = Postgres(str(tmp_path / "none"))
    with pytest.raises(Missing, match="no PostgreSQL cluster on this host"):
        host.postgres.server()
    with pytest.raises(Missing, match="no PostgreSQL cluster 9/none") as error:
        pg.host.postgres.server("9/none")
    assert pg.cluster.name in error.value.hint
    place = pg.cluster.etc / "12" / "old"
    place.mkdir(parents=True)
    try:
        (place / "postgresql.conf").write_text(f"data_directory = '{tmp_path}'\n")
        assert reached(pg.host) == pg.cluster.user
        with pytest.raises(Missing, match="the PostgreSQL cluster 12/old does not run") as error:
            pg.host.postgres.server("12/old")
        assert "systemctl start postgresql@12-old" in error.value.hint
        (tmp_path / "postmaster.pid").write_text("999999999\n/x\n1\n5432\n/run\n")
        with pytest.raises(Missing, match="does not run"):
            pg.host.postgres.server("12/old")
        (tmp_path / "postmaster.pid").write_text((pg.cluster.data / "postmaster.pid").read_text())
        pg.host.forget()
        with pytest.raises(ResourceError, match=f"several PostgreSQL clusters .*: 12/old, {pg.cluster.name}"):
            pg.host.postgres.server()
    finally:
        (place / "postgresql.conf").unlink()


def test_without_root_it_is_said(pg: Pg) -> None:  # noqa: F811
    if os.geteuid():
        pytest.fail("this test needs root")
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermitted):
            pg.host.postgres.server()
    finally:
        os.seteuid(0)


def test_the_environment_of_libpq_counts_for_nothing(pg: Pg, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    values = {"PGHOST": "/none", "PGUSER": "none", "PGPORT": "1", "PGDATABASE": "none", "PGSSLMODE": "require"}
    for name, value in {**values, "PGOPTIONS": "-c nope=1", "PGPASSFILE": "/etc/passwd"}.items():
        monkeypatch.setenv(name, value)
    assert reached(pg.host) == pg.cluster.user


def test_a_restart_in_the_middle_is_survived(cluster: PostgresCluster, tmp_path: Path) -> None:  # noqa: F811
    host = cluster.host(tmp_path)
    assert reached(host) == cluster.user
    cluster.stop()
    host.forget()
    with pytest.raises(Missing, match="does not run"):
        database().read(host)
    cluster.start()
    host.forget()
    assert database().read(host) is None


def test_a_superuser_who_is_not_let_in_is_told(cluster: PostgresCluster, tmp_path: Path) -> None:  # noqa: F811
    hba = cluster.data / "pg_hba.conf"
    before = hba.read_text()
    try:
        with cluster.connected() as connection:
            hba.write_text("local all all reject\n")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("SELECT pg_sleep(0.2)")
            with pytest.raises(ResourceError, match="does not let in its superuser") as error:
                database().read(cluster.host(tmp_path))
            assert "pg_hba.conf" in str(error.value)
            hba.write_text(before)
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("SELECT pg_sleep(0.2)")
    finally:
        hba.write_text(before)
    with pytest.raises(psycopg.OperationalError), effective_user(65534):
        psycopg.connect(host=str(cluster.folder / "run"), user=cluster.user, dbname="postgres")
