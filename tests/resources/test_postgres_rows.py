"""Rows of tables of PostgreSQL."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres_cluster import Pg, cluster, pg  # noqa: F401

from agent.declaration.schema import validated
from agent.errors import Missing, ResourceError
from agent.resource import differences
from agent.resources.postgres_rows import PostgresRows
from agent.secret import Secret, SecretText

pytestmark = pytest.mark.xdist_group("postgres")
CANARY = "canary-Zz9"


def rows(name: str = "db.public.t", **fields: Any) -> PostgresRows:
    """Rows as a site declares them, through the schema."""
    found = validated("postgres_rows", {"name": name, "key": ["id"], **fields}, set())
    assert isinstance(found, dict), found
    return PostgresRows(**found)


def secret(text: str = CANARY) -> SecretText:
    return SecretText(("", "pw", "")).bound(lambda _name: text)


def test_rows_are_added_and_changed_by_their_key(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE TABLE t (id int PRIMARY KEY, name text, quota bigint DEFAULT 7, made timestamptz DEFAULT now())")
    both = rows(rows=[{"id": 1, "name": "one"}, {"id": 2, "name": "it's", "quota": 3}])
    assert pg.preview(both) == [
        """INSERT INTO "public"."t" ("id", "name") VALUES ('1', 'one')""",
        """INSERT INTO "public"."t" ("id", "name", "quota") VALUES ('2', 'it''s', '3')""",
    ]
    assert pg.apply(both) is not None
    assert pg.sql("SELECT id, name, quota FROM t ORDER BY id") == [(1, "one", 7), (2, "it's", 3)]
    pg.sql("UPDATE t SET quota = 9", "INSERT INTO t VALUES (3, 'other')")
    pg.host.forget()
    change = pg.plan(both)
    assert change is not None
    assert [(each.attribute, each.actual, each.desired) for each in change.attributes] == [("2: quota", "9", "3")]
    assert both.summary(pg.host, change) == "rows: 1 to change"
    assert pg.preview(both) == ["""UPDATE "public"."t" SET "quota" = '3' WHERE "id" = '2'"""]
    pg.apply(both)
    assert pg.sql("SELECT id, quota FROM t ORDER BY id") == [(1, 9), (2, 3), (3, 7)]


def test_values_compare_as_values_of_their_type(pg: Pg) -> None:  # noqa: F811
    pg.sql(
        "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE t (id int PRIMARY KEY, a bigint, b bool, c timestamptz, d numeric(6,2), e interval, f inet,"
        " g jsonb, h int[], i uuid, j bytea, k char(5), l citext, m mood, n date, o real, p json, q point, r text[])",
    )
    spellings = [
        {"id": 1, "a": 5, "b": True, "c": "2024-01-01 01:00+01", "d": 1.5, "e": "1 day", "f": "10.0.0.1",
         "g": {"x": [1]}, "h": [1, 2], "i": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "j": "\\x00ff", "k": "ab",
         "l": "X", "m": "ok", "n": datetime.date(2024, 2, 3), "o": 0.1, "p": {"b": 1, "a": "ü"}, "q": "(1,2)",
         "r": ["a b", 'c"d', "{}"]},
        {"id": "1", "a": "5", "b": "yes", "c": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), "d": "1.50",
         "e": "1 day 00:00", "f": "10.0.0.1/32", "g": {"x": [1]}, "h": "{1,2}",
         "i": "{a0eebc999c0b4ef8bb6d6bb9bd380a11}", "j": "\\000\\377", "k": "ab   ", "l": "X", "m": "ok",
         "n": "3 February 2024", "o": "1e-1", "p": {"b": 1, "a": "ü"}, "q": "1,2", "r": '{"a b","c\\"d","{}"}'},
    ]  # fmt: skip
    assert pg.apply(rows(rows=[spellings[0]])) is not None
    assert pg.plan(rows(rows=[spellings[1]])) is None
    assert pg.sql("SELECT a, b, c = '2024-01-01Z', h, j, p->>'a', r FROM t") == [
        (5, True, True, [1, 2], b"\x00\xff", "ü", ["a b", 'c"d', "{}"])
    ]


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=TEXTS, text=TEXTS | st.none(), number=st.integers(-(2**63), 2**63 - 1), real=st.floats(), flag=st.booleans())
def test_any_value_converges(
    pg: Pg,  # noqa: F811
    key: str,
    text: str | None,
    number: int,
    real: float,
    flag: bool,
) -> None:
    pg.sql('CREATE TABLE IF NOT EXISTS t ("a.%s" text, "te""xt" text, n bigint, r float8, f bool, j jsonb)')
    row = {"a.%s": key, 'te"xt': text, "n": number, "r": real, "f": flag, "j": {"text": (text or "").replace("\\", "")}}
    pg.apply(rows(key=["a.%s"], rows=[row], exclusive=True))
    assert pg.sql('SELECT "a.%s", "te""xt", n, f FROM t') == [(key, text, number, flag)]
    hidden = rows(key=["a.%s"], rows=[row], sensitive_columns=['te"xt', "n"])
    pg.host.forget()
    assert pg.plan(hidden) is None


def test_exclusive_deletes_all_other_rows(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE TABLE t (id int, part text, x int)", "INSERT INTO t SELECT n, 'p', n FROM generate_series(1, 300) n",
           "INSERT INTO t VALUES (1, NULL, 1)")  # fmt: skip
    resource = rows(key=["id", "part"], rows=[{"id": 1, "part": "p"}, {"id": 2, "part": "q", "x": 5}], exclusive=True)
    change = pg.plan(resource)
    assert change is not None
    others = next(each.actual for each in change.attributes if each.attribute == "rows not declared")
    assert len(others) == 101
    assert others[-1] == "… and 200 more"
    assert pg.preview(resource) == [
        """DELETE FROM "public"."t" WHERE (("id", "part") IN (('1', 'p'), ('2', 'q'))) IS NOT TRUE""",
        """INSERT INTO "public"."t" ("id", "part", "x") VALUES ('2', 'q', '5')""",
    ]
    pg.apply(resource)
    assert pg.sql("SELECT * FROM t ORDER BY id") == [(1, "p", 1), (2, "q", 5)]
    assert pg.apply(rows(exclusive=True)) is not None
    assert pg.sql("SELECT * FROM t") == []
    assert pg.plan(rows(rows=[])) is None


def test_rows_to_be_absent(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE TABLE t (id int, x text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    gone = rows(rows=[{"id": 1, "x": "ignored"}, {"id": 5}], ensure="absent")
    assert pg.preview(gone) == ["""DELETE FROM "public"."t" WHERE "id" = '1'"""]
    assert pg.apply(gone) is not None
    assert pg.sql("SELECT id FROM t") == [(2,)]
    assert pg.plan(rows("none.public.t", rows=[{"id": 1}], ensure="absent")) is None


def test_identity_columns_can_be_given(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, x text)")
    assert "OVERRIDING SYSTEM VALUE" in pg.preview(rows(rows=[{"id": 4, "x": "a"}]))[0]
    pg.apply(rows(rows=[{"id": 4, "x": "a"}]))
    pg.apply(rows(key=["x"], rows=[{"x": "b"}]))
    assert pg.sql("SELECT * FROM t ORDER BY id") == [(1, "b"), (4, "a")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rows": [{"id": 1}, {"id": "x"}]}, 'row 2, column id: invalid input syntax for type integer: "x"'),
        ({"rows": [{"id": 1, "short": "abcdef"}]}, "row 1, column short: value too long"),
        ({"rows": [{"id": 1, "nope": 1}]}, '"public"."t" has no column nope'),
        ({"rows": [{"id": 1}, {"id": "1"}]}, "has two declared rows with the key 1"),
        ({"rows": [{"id": 3}]}, "holds several rows with the key 3"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(pg: Pg, fields: Any, words: str) -> None:  # noqa: F811
    pg.sql("CREATE TABLE t (id int, short varchar(3))", "INSERT INTO t VALUES (3), (3)")
    with pytest.raises(ResourceError) as error:
        pg.plan(rows(**fields))
    assert words in str(error.value)


def test_a_table_or_database_that_is_not_there_is_missing(pg: Pg) -> None:  # noqa: F811
    with pytest.raises(Missing, match=r"the table public\.t does not exist in the database db"):
        pg.plan(rows(rows=[{"id": 1}]))
    with pytest.raises(Missing, match="the database none does not exist"):
        pg.plan(rows("none.public.t", rows=[{"id": 1}]))


def test_an_error_half_way_changes_nothing(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE TABLE t (id int, x text UNIQUE)", "INSERT INTO t VALUES (9, 'b')")
    with pytest.raises(ResourceError, match="duplicate key value") as error:
        pg.apply(rows(rows=[{"id": 1, "x": "a"}, {"id": 2, "x": "b"}]))
    assert "=(b)" not in str(error.value)
    assert pg.sql("SELECT id FROM t") == [(9,)]


@pytest.mark.parametrize("way", ["declared", "secret"])
def test_what_is_sensitive_is_seen_nowhere(pg: Pg, way: str) -> None:  # noqa: F811
    pg.sql("CREATE TABLE t (id int, pw text CHECK (pw <> 'canary-bad') UNIQUE, n int, j jsonb)")
    start = len(pg.cluster.log)
    value: Any = CANARY if way == "declared" else secret()
    fields: Any = {"sensitive_columns": ["pw", "n", "j"]} if way == "declared" else {}
    resource = rows(rows=[{"id": 1, "pw": value, "j": {"in": [value]}}], **fields)
    seen = [str(pg.plan(resource)), *pg.preview(resource)]
    assert "(sensitive)" in seen[-1]
    change = pg.apply(resource)
    assert change is not None
    assert pg.sql("SELECT pw FROM t") == [(CANARY,)]
    assert isinstance((change.desired or {})["1: pw"], Secret)
    pg.sql("UPDATE t SET pw = 'other'")
    pg.host.forget()
    seen += [str(pg.plan(resource)), *pg.preview(resource), str(pg.apply(resource))]
    pg.sql("INSERT INTO t SELECT 5, pw || '2' FROM t")
    bad: Any = (
        [CANARY, f"{CANARY}2", "canary-bad"]
        if way == "declared"
        else [secret(), secret(f"{CANARY}2"), secret("canary-bad")]
    )
    wrong: list[dict[str, Any]] = [{"id": 1, "n": bad[0]}, {"id": 1, "pw": bad[1]}, {"id": 1, "pw": bad[2]}]
    for row in wrong:
        pg.host.forget()
        with pytest.raises(ResourceError) as error:
            pg.apply(rows(rows=[row], **fields))
        seen.append(repr(error.value) + str(error.value) + str(error.value.__cause__))
    assert "constraint t_pw_key" in seen[-2]
    log = pg.cluster.log[start:]
    assert "canary" not in "".join(seen)
    assert "canary" not in log.replace("canary-bad') UNIQUE", "")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"key": []}, "key is missing"),
        ({"rows": [{"id": 1}, {"x": 1}]}, "row 2 has no id"),
        ({"rows": [{}]}, "at least its key"),
        ({"rows": [{"id": secret()}]}, "id cannot be sensitive"),
        ({"sensitive_columns": ["id"]}, "id cannot be sensitive"),
        ({"name": "db.t"}, "is not a table"),
        ({"ensure": "absent", "exclusive": True}, "exclusive has no meaning"),
    ],
)
def test_what_cannot_be_declared(fields: dict[str, Any], words: str) -> None:
    problems = validated("postgres_rows", {"name": "db.public.t", "key": ["id"], **fields}, set())
    assert isinstance(problems, list)
    assert words in problems[0].message


def test_names_and_labels(pg: Pg) -> None:  # noqa: F811
    pg.sql('CREATE SCHEMA "My.Schema"', 'CREATE TABLE "My.Schema"."T+%s" (id int)')
    resource = rows('db."My.Schema"."T+%s"+first', rows=[{"id": 1}])
    assert resource.id == 'postgres_rows:db."My.Schema"."T+%s"+first'
    assert 'postgres_table:db."My.Schema"."T+%s"' in resource.implied_requires()
    pg.apply(resource)


def test_undo(pg: Pg) -> None:  # noqa: F811
    pg.sql("CREATE TABLE t (id int, x text, y text)", "INSERT INTO t VALUES (1, 'old', 'y')")
    resource = rows(rows=[{"id": 1, "x": "new"}, {"id": 2, "x": "added"}])
    before = resource.read(pg.host)
    pg.apply(resource)
    resource.undo(pg.host, before)
    assert pg.sql("SELECT * FROM t") == [(1, "old", "y")]
    pg.host.forget()
    pg.apply(resource)
    resource.undo(pg.host, None)
    assert pg.sql("SELECT * FROM t") == []


def test_a_locked_table_is_told(pg: Pg, tmp_path: Path) -> None:  # noqa: F811
    pg.sql("CREATE TABLE t (id int)")
    host = pg.cluster.host(tmp_path, lock_limit=0.3)
    with pg.cluster.connected("db") as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE t")
        with pytest.raises(ResourceError, match='"t" is locked'):
            rows(rows=[{"id": 1}]).read(host)
    host.forget()
    resource = rows(rows=[{"id": 1}])
    assert differences(resource.read(host), resource.desired(host)) is not None
