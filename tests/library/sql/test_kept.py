"""Views whose rows are kept: the same results as the composed query, and no work done twice."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from mtsql.sql.kept import KeptRoom, KeptViews
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryStatus
from mtsql.sql.sqlite_engine import SqliteEngine

LIMITS = QueryLimits()
ROOM = 1_000_000
HEAVY = "SELECT a.id FROM t a, t b, t c, t d, t e WHERE a.id * b.id * c.id * d.id * e.id = 32"
"""5 ** 5 = 3,125 rows to look at, more than 20,000 steps of work."""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "t.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE t (
                id INTEGER PRIMARY KEY, name TEXT, price REAL, num NUMERIC, raw BLOB,
                code VARCHAR(9), any_, folded TEXT COLLATE NOCASE
            );
            INSERT INTO t VALUES
                (1, 'a', 1.5, 7, x'00ff', '5', 5, 'A'), (2, NULL, 2, '7x', NULL, '05', '5', 'a'),
                (3, 'c', NULL, 2.5, 'text', '7', 5.0, 'b'),
                (4, 'é', -0.0, 1e300, x'', '5', NULL, NULL),
                (5, '', 9e999, NULL, x'35', NULL, x'35', 'B');
            CREATE TABLE other (code TEXT, n INTEGER);
            INSERT INTO other VALUES ('5', 5), ('05', 7), ('7', NULL);
            """
        )
    return path


@pytest.fixture
def engine(path):
    engine = opened(path)
    yield engine
    engine.close()


def opened(path, room=ROOM, **bounds):
    """An engine that keeps every view, however little work it is."""
    engine = SqliteEngine(path, KeptRoom(room))
    least = {"keep_from_steps": 0, "steps_per_cell": 0} | bounds
    engine.kept = KeptViews(engine._connection, KeptRoom(room), **least)
    return engine


def composed(views):
    *before, (_, last) = views
    parts = ", ".join(f"{name} AS ({sql})" for name, sql in before)
    return f"WITH {parts} {last}" if before else last


def run(engine, *texts, limits=LIMITS):
    """Run a chain view by view; the result of the last one."""
    views = tuple((f"v{place}", sql) for place, sql in enumerate(texts))
    for place in range(len(views)):
        prefix = views[: place + 1]
        result = engine.execute_view(composed(prefix), prefix, limits)
    return result


ALL = "SELECT * FROM t"
COLUMNS = ("id", "name", "price", "num", "raw", "code", "any_")


@pytest.mark.parametrize(
    "texts",
    [
        (f"SELECT {', '.join(COLUMNS)} FROM t", "SELECT * FROM v0 ORDER BY id"),
        # Affinity decides what equals what: each column with each kind of constant, ...
        *(
            (f"SELECT {', '.join(COLUMNS)} FROM t", f"SELECT id FROM v0 WHERE {column} {other}")
            for column in COLUMNS
            for other in ("= 5", "= '5'", "< 'b'", "< 6", "IN (5, '7')", "= 5.0", "BETWEEN 1 AND 7")
        ),
        # ... with a column of a table, and after an expression has lost or got one.
        *(
            (
                f"SELECT {made} AS x, id FROM t",
                f"SELECT v0.id, other.n FROM v0, other WHERE x = {to}",
            )
            for made in ("+code", "code", "id", "count(*) OVER ()", "lower(code)", "any_", "num")
            for to in ("other.code", "other.n", "+other.code")
        ),
        ("SELECT CAST(id AS TEXT) AS x FROM t", "SELECT x = 1, x < '3' FROM v0"),
        ("SELECT 5 AS x", "SELECT x = '5', x || '', typeof(x) FROM v0"),
        ("SELECT id FROM t UNION ALL SELECT code FROM t", "SELECT typeof(id), id = 5 FROM v0"),
        (
            "SELECT code FROM t UNION ALL SELECT id FROM t",
            "SELECT typeof(code), code = '5' FROM v0",
        ),
        ("SELECT 1.0 AS x UNION ALL SELECT 2", "SELECT typeof(x), x / 2 FROM v0"),
        # Names: two of one name, expressions, keywords, quotes, none at all.
        ("SELECT a.id, b.id FROM t a JOIN t b USING (id)", "SELECT * FROM v0"),
        ("SELECT id, ID FROM t", "SELECT * FROM v0"),
        ("SELECT count(*), max( price ) FROM t", "SELECT * FROM v0"),
        ('SELECT id AS "select", name AS "a""b" FROM t', 'SELECT "select", "a""b" FROM v0'),
        ("SELECT id AS '', name AS ' ' FROM t", "SELECT * FROM v0"),
        # Order, collations, text that cannot be decoded, nothing at all.
        ("SELECT id, price FROM t ORDER BY price DESC", "SELECT id FROM v0"),
        ("SELECT folded FROM t", "SELECT DISTINCT folded FROM v0 WHERE folded = 'a'"),
        ("SELECT name COLLATE NOCASE AS x FROM t", "SELECT * FROM v0 WHERE x = 'A'"),
        ("SELECT CAST(x'ff41' AS TEXT) AS x", "SELECT hex(x) FROM v0"),
        ("SELECT 'a' || char(0) || 'b' AS x", "SELECT length(x), hex(x) FROM v0"),
        ("SELECT id FROM t WHERE id > 99", "SELECT count(*), max(id) FROM v0"),
        # A view's name hides a table's; a query on a view may name neither its rows nor its table.
        ("SELECT id FROM t", "SELECT rowid FROM v0"),
        ("SELECT id FROM t", "SELECT nothing FROM v0"),
        ("SELECT id FROM t", "SELECT v0.id, sum(v0.id) FROM v0 JOIN v0 AS w GROUP BY 1"),
        ("SELECT id FROM t", "SELECT id + 1 AS id FROM v0", "SELECT * FROM v0 JOIN v1 USING (id)"),
    ],
)
def test_kept_rows_give_what_the_composed_query_gives(engine, texts):
    views = tuple((f"v{place}", sql) for place, sql in enumerate(texts))
    want = engine.execute(composed(views), LIMITS)
    got = run(engine, *texts)
    assert (got.status, got.columns, got.message) == (want.status, want.columns, want.message)
    assert sorted(map(repr, got.rows)) == sorted(map(repr, want.rows))


def test_a_view_is_computed_once(path):
    engine = opened(path, keep_from_steps=20_000)
    views = (("v0", HEAVY), ("v1", "SELECT count(*) FROM v0"))
    assert engine.kept.rewrite(views) is None
    run(engine, *(sql for _, sql in views))
    # v0 took much work and is kept. v1 takes little in addition, and yet its whole work counts.
    assert len(engine.kept) == 2
    on_kept = engine.kept.rewrite(views)
    assert on_kept is not None
    assert "t a" not in on_kept.sql
    assert on_kept.num_steps > 20_000
    assert engine._num_steps(LIMITS.max_vm_steps - on_kept.num_steps) < 5_000
    # Nobody has named the table: it may not be read.
    assert engine.execute(on_kept.sql, LIMITS).status is QueryStatus.REFUSED
    again = engine.execute_view(composed(views), views, LIMITS)
    assert again.rows == engine.execute(composed(views), LIMITS).rows
    engine.close()


def test_the_work_of_kept_views_counts(path):
    engine = opened(path)
    run(engine, HEAVY)
    views = (("v0", HEAVY), ("v1", "SELECT count(*) FROM v0, t"))
    kept = engine.kept.rewrite(views)
    assert kept is not None
    few = replace(LIMITS, max_vm_steps=kept.num_steps)
    result = engine.execute_view(composed(views), views, few)
    assert (result.status, result.kind) == (QueryStatus.INTERRUPTED, "steps")
    engine.close()


def test_what_is_cheap_large_or_cut_is_not_kept(path):
    assert kept_of(path, "SELECT id FROM t", keep_from_steps=20_000) == 0
    assert kept_of(path, HEAVY, steps_per_cell=20_000) == 0
    assert kept_of(path, HEAVY, limits=replace(LIMITS, max_rows=2)) == 0
    assert kept_of(path, HEAVY, room=3000) == 0
    assert kept_of(path, HEAVY) == 1


def kept_of(path, sql, *, limits=LIMITS, **bounds):
    engine = opened(path, **bounds)
    run(engine, sql, limits=limits)
    count = len(engine.kept)
    engine.close()
    return count


def test_the_oldest_make_room_and_databases_share_it(path):
    # A view of one number takes 16 + 8 bytes, at most a fourth of the room: four fit into 96.
    room = KeptRoom(100)
    engine, other = SqliteEngine(path, room), SqliteEngine(path, room)
    for one in (engine, other):
        one.kept = KeptViews(one._connection, room, keep_from_steps=0, steps_per_cell=0)
    for number in range(6):
        run(engine, f"SELECT {number} AS n")
    assert (len(engine.kept), room.num_bytes) == (4, 96)
    assert engine.kept.rewrite((("v0", "SELECT 1 AS n"), ("v1", "SELECT * FROM v0"))) is None
    assert engine.kept.rewrite((("v0", "SELECT 5 AS n"), ("v1", "SELECT * FROM v0"))) is not None
    run(other, "SELECT 1 AS n")
    assert len(other.kept) == 0
    engine.close()
    run(other, "SELECT 1 AS n")
    assert (len(other.kept), room.num_bytes) == (1, 24)
    other.close()


def test_fractions_are_not_added_up_in_another_order(engine):
    run(engine, "SELECT price FROM t")
    shown, added = "SELECT price FROM v0", "SELECT avg (price) FROM v0"
    assert engine.kept.rewrite((("v0", "SELECT price FROM t"), ("v1", shown))) is not None
    assert engine.kept.rewrite((("v0", "SELECT price FROM t"), ("v1", added))) is None


def test_the_connection_stays_read_only(engine):
    run(engine, "SELECT id FROM t", "SELECT id FROM v0")
    assert len(engine.kept) == 2
    schema = engine.kept.schema
    for sql in (
        "DELETE FROM t",
        f"CREATE TABLE {schema}.x (a)",
        f"SELECT * FROM {schema}.sqlite_master",
        "ATTACH ':memory:' AS more",
        "CREATE TEMP TABLE x (a)",
    ):
        assert engine.execute(sql, LIMITS).status is QueryStatus.REFUSED


def test_names_that_are_no_names_are_never_kept(engine):
    for name in ("a b", '"a', 'a" AS (SELECT 1), "b', "v1; --", ""):
        views = ((name, "SELECT 1 AS n"), ("last", "SELECT 2 AS n"))
        engine.execute_view("SELECT 2 AS n", views, LIMITS)
        assert engine.kept.rewrite(views) is None
    twice = (("a", "SELECT 1 AS n"), ("A", "SELECT 2 AS n"), ("last", "SELECT * FROM a"))
    assert engine.kept.rewrite(twice) is None
    assert len(engine.kept) == 0


def test_a_pool_keeps_views_in_its_workers(path):
    views = (("v0", HEAVY), ("v1", "SELECT count(*) AS n FROM v0"))

    async def main():
        async with LocalPool({"t": path}, num_workers=1, cache_bytes=0) as pool:
            requests = [
                QueryRequest(db_id="t", sql=composed(views[:num]), views=views[:num])
                for num in (1, 2)
            ]
            first = [(await pool.execute_many([one]))[0] for one in requests]
            again = await pool.execute_many(requests)
            return first, again

    first, again = asyncio.run(main())
    assert [one.rows for one in first] == [one.rows for one in again]
    assert first[1].rows == ((len(first[0].rows),),)
