"""Roles of PostgreSQL."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_cluster import Pg, cluster, pg  # noqa: F401

from agent.declaration.schema import validated
from agent.errors import KnownAfterApply, ResourceError
from agent.host.postgres.scram import is_verifier, make_verifier, matches
from agent.resources.postgres_role import PostgresRole
from agent.secret import SecretText

pytestmark = pytest.mark.xdist_group("postgres")
CANARY = "canary-Zz9"


def role(name: str = "vmail", **fields: Any) -> PostgresRole:
    """A role as a site declares it, through the schema."""
    found = validated("postgres_role", {"name": name, **fields}, set())
    assert isinstance(found, dict), found
    return PostgresRole(**found)


def flags(pg: Pg, name: str = "vmail") -> tuple[Any, ...]:  # noqa: F811
    return pg.sql(f"SELECT rolcanlogin, rolsuper, rolcreatedb FROM pg_roles WHERE rolname = '{name}'")[0]


def test_from_nothing_and_back(pg: Pg) -> None:  # noqa: F811
    assert pg.preview(role()) == ['CREATE ROLE "vmail" NOLOGIN NOSUPERUSER NOCREATEDB']
    pg.apply(role())
    assert flags(pg) == (False, False, False)
    pg.apply(role(login=True, createdb=True))
    assert flags(pg) == (True, False, True)
    assert pg.preview(role(superuser=True)) == ['ALTER ROLE "vmail" NOLOGIN SUPERUSER NOCREATEDB']
    pg.apply(role(superuser=True))
    pg.apply(role(ensure="absent"))
    assert pg.plan(role(ensure="absent")) is None


def test_rights_that_were_given_by_hand_are_taken_away(pg: Pg) -> None:  # noqa: F811
    pg.apply(role(login=True))
    pg.sql("ALTER ROLE vmail SUPERUSER CREATEDB")
    pg.host.forget()
    change = pg.apply(role(login=True))
    assert change is not None
    assert {each.attribute for each in change.attributes} == {"superuser", "createdb"}


def test_membership_is_exact(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE ROLE a", "CREATE ROLE b", 'CREATE ROLE "C ""x"', "CREATE ROLE boss CREATEROLE")
    pg.apply(role(member_of=["a", "b", "b"]))
    assert pg.plan(role()) is None
    pg.sql("REVOKE b FROM vmail", "GRANT a TO boss WITH ADMIN OPTION", 'GRANT "C ""x" TO boss WITH ADMIN OPTION',
           "SET ROLE boss", 'GRANT "C ""x" TO vmail')  # fmt: skip
    pg.host.forget()
    change = pg.apply(role(member_of=["b"]))
    assert change is not None
    assert pg.sql(
        "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = 'vmail'::regrole"
    ) == [("b",)]
    pg.apply(role(member_of=["pg_read_all_data", "pg_monitor"]))
    assert pg.plan(role(member_of=["pg_monitor", "pg_read_all_data"])) is None
    pg.apply(role(member_of=[]))


def test_a_password_lets_in_and_is_seen_nowhere(pg: Pg) -> None:  # noqa: F811
    start = len(pg.cluster.log)
    secret = SecretText(("", "vmail", "")).bound(lambda _name: CANARY)
    for password in (CANARY, secret):
        resource = role(login=True, password=password)
        seen = [str(pg.plan(resource)), *pg.preview(resource)]
        assert seen[-1] == """ALTER ROLE "vmail" PASSWORD '(sensitive)'"""
        seen.append(str(pg.apply(resource)))
        assert CANARY not in "".join(seen)
        pg.sql("ALTER ROLE vmail PASSWORD NULL")
        pg.host.forget()
    pg.apply(resource)
    verifier = pg.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'vmail'")[0][0]
    assert verifier.startswith("SCRAM-SHA-256$4096:")
    log = pg.cluster.log[start:]
    assert CANARY not in log
    assert "SCRAM-SHA-256" not in log
    assert 'CREATE ROLE "vmail"' in log
    hba = pg.cluster.data / "pg_hba.conf"
    before = hba.read_text()
    try:
        hba.write_text("local all vmail scram-sha-256\n" + before)
        pg.sql("SELECT pg_reload_conf()", "SELECT pg_sleep(0.2)")
        place = {"host": str(pg.cluster.folder / "run"), "dbname": "db", "user": "vmail"}
        psycopg.connect(**place, password=CANARY).close()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(**place, password="other")
    finally:
        hba.write_text(before)
        pg.sql("SELECT pg_reload_conf()")


def test_a_changed_password_is_put_right(pg: Pg) -> None:  # noqa: F811
    pg.apply(role(password="one"))
    change = pg.apply(role(password="two"))
    assert change is not None
    assert change.attributes[0].attribute == "password"
    pg.sql("SET password_encryption = 'md5'", "ALTER ROLE vmail PASSWORD 'two'")
    pg.host.forget()
    assert pg.apply(role(password="two")) is not None
    verifier = make_verifier("three")
    assert pg.apply(role(password=verifier)) is not None
    assert pg.plan(role(password="three")) is None


def test_a_secret_that_is_still_to_be_made_is_known_after_apply(pg: Pg) -> None:  # noqa: F811
    def later(_name: str) -> str:
        raise KnownAfterApply("the secret vmail is generated first")

    with pytest.raises(KnownAfterApply):
        role(password=SecretText(("", "vmail", "")).bound(later)).desired(pg.host)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_verifiers_are_those_of_the_client_library(password: str) -> None:
    assert matches(password, make_verifier(password))
    assert not matches(password + "x", make_verifier(password))
    assert not matches(password, "md5" + "0" * 32)
    assert not matches(password, None)
    assert is_verifier(make_verifier(password))


ODD = ["pässword", "ﬁ", "a\u00adb", "Ⅸ", "\u2168", "x\u00a0y", "\u0627\u0628", "\u0627a", "a\u200bb", "\u0221", "½ ª"]


@pytest.mark.parametrize("password", ["plain", "with space", "'; --", "x" * 200, *ODD])
def test_verifiers_of_the_server_are_understood(pg: Pg, password: str) -> None:  # noqa: F811
    literal = password.replace("'", "''")
    pg.sql("CREATE ROLE vmail", f"ALTER ROLE vmail PASSWORD '{literal}'")
    assert pg.plan(role(password=password)) is None
    with pg.cluster.connected() as connection:
        made = connection.pgconn.encrypt_password(password.encode(), b"vmail", b"scram-sha-256").decode()
    assert matches(password, made)


def test_a_role_that_owns_something_stays(pg: Pg) -> None:  # noqa: F811
    pg.apply(role())
    pg.sql("CREATE TABLE t (a int)", "ALTER TABLE t OWNER TO vmail")
    with pytest.raises(ResourceError, match="owns objects or has privileges") as error:
        pg.apply(role(ensure="absent"))
    assert "1 object in database db" in str(error.value)
    assert 'REASSIGN OWNED BY "vmail" TO postgres' in str(error.value)


def test_the_superuser_of_the_cluster_stays_one(pg: Pg) -> None:  # noqa: F811
    with pytest.raises(ResourceError, match="must stay one"):
        pg.apply(role(pg.cluster.user, login=True))


@pytest.mark.parametrize("name", ["Mixed Case", 'quo"te', "dash-ed", "ünïcode", "per%s", "a'b", "select"])
def test_names_of_all_kinds(pg: Pg, name: str) -> None:  # noqa: F811
    assert pg.apply(role(name, login=True, password="x", member_of=[])) is not None
    assert pg.apply(role(name, ensure="absent")) is not None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "pg_mine"}, "reserves"),
        ({"name": "public"}, "reserves"),
        ({"name": "a", "member_of": ["public"]}, "reserves"),
        ({"name": "x" * 64}, "longer than 63 bytes"),
        ({"name": "a", "password": ""}, "password is empty"),
        ({"name": "a", "ensure": "absent", "login": True}, "login has no meaning"),
        ({"name": "a", "cluster": "main"}, "is not a cluster"),
    ],
)
def test_what_cannot_be_declared(fields: dict[str, Any], words: str) -> None:
    problems = validated("postgres_role", fields, set())
    assert isinstance(problems, list)
    assert words in problems[0].message


def test_undo(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE ROLE a", "CREATE ROLE vmail LOGIN IN ROLE a")
    resource = role(superuser=True, member_of=[])
    before = resource.read(pg.host)
    pg.apply(resource)
    resource.undo(pg.host, before)
    assert flags(pg) == (True, False, False)
    assert pg.sql("SELECT pg_has_role('vmail', 'a', 'MEMBER')") == [(True,)]
    pg.host.forget()
    resource.undo(pg.host, None)
    pg.host.forget()
    assert resource.read(pg.host) is None


def test_all_roles_cost_two_queries(pg: Pg) -> None:  # noqa: F811
    pg.sql(*(f"CREATE ROLE r{number}" for number in range(50)))
    assert all(pg.plan(role(f"r{number}", member_of=[])) is None for number in range(50))
    assert pg.host.postgres.queries == 2
    assert "service:postgresql" in role().implied_requires()
    assert "service:postgresql@17-main" in role(cluster="17/main").implied_requires()
