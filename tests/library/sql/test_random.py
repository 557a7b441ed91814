"""Whatever text comes, an engine answers with a result, and the cache's spelling changes none."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.shops import facts
from mtsql.sql.cache import normalise
from mtsql.sql.duckdb_engine import DuckdbEngine
from mtsql.sql.engine import Engine, ErrorKind
from mtsql.sql.records import QueryLimits, QueryResult, QueryStatus
from mtsql.sql.sqlite_engine import SqliteEngine

LIMITS = QueryLimits(timeout_s=0.5, max_vm_steps=200_000, max_rows=50, max_bytes=20_000)
TABLES = """
CREATE TABLE pet (id INTEGER, name TEXT);
INSERT INTO pet VALUES (1, 'Ada'), (2, 'B  b'), (3, 'c''d');
CREATE TABLE "order" ("delete" TEXT, "a  b" INTEGER);
INSERT INTO "order" VALUES ('x', 1), ('y;', 2);
"""
WORDS = """
SELECT SELECT SELECT FROM FROM WHERE GROUP BY ORDER BY LIMIT HAVING UNION ALL EXCEPT DISTINCT WITH
RECURSIVE AS ON JOIN LEFT IN IS NOT NULL LIKE ESCAPE BETWEEN AND OR CASE WHEN THEN ELSE END VALUES
EXISTS CAST OVER count max sum upper length replace INSERT INTO UPDATE SET DELETE DROP TABLE CREATE
ATTACH PRAGMA BEGIN COMMIT VACUUM EXPLAIN COPY TO LOAD CALL SHOW DESCRIBE x y id name pet pet order
main * * ( ) ( ) , , . ; = < > <> || + - / % 0 1 2 1.5 1e3 0x1F :: : ? :a $1 @ # ! ~ & | [ ] { } \\
'a' 'a  b' 'it''s' '' 'a;b' '--' '/*' "name" "a  b" "delete" "order" `id` [name] $$a$$ $q$ ' " ` $$
E'
""".split()  # noqa: SIM905 - a list of 150 texts is harder to read
SPACES = [*"   ", "", "  ", *"\n\t\f\v\u00a0;", "\r\n", "-- c\n", "/* c */"]
TOKENS = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(SPACES)), max_size=25)
TEXTS = st.one_of(
    TOKENS.map(lambda pairs: "".join(word + space for word, space in pairs)),
    TOKENS.map(lambda pairs: "SELECT " + "".join(word + space for word, space in pairs)),
)
SHAPES = st.sampled_from(
    [
        "SELECT {0} FROM pet WHERE{1}id{2}= 1",
        "SELECT{1}{0}{2}",
        "SELECT 'a {1} b', {0}{2}FROM{1}pet ORDER{2}BY id",
        'SELECT "a {1} b"{2}FROM "order"{1}, pet WHERE {0} IS NOT NULL',
        "WITH c AS ({2}SELECT {0} AS x{1}){2}SELECT x{1}FROM c, pet",
        "{1}SELECT `id`, {0}{1}FROM pet{2};{1}",
        "SELECT 1{1}{0}{2}",
        "VALUES ({0}{1}){2}, ({0})",
    ]
)
ANY_SPACE = st.lists(st.sampled_from(SPACES), max_size=3).map("".join)
VALUE = st.sampled_from([one for one in WORDS if one[0] in "01'\"`[$" or one in ("id", "name")])
NEAR_SQL = st.builds(str.format, SHAPES, VALUE, ANY_SPACE, ANY_SPACE)
CLOCK = (ErrorKind.TIMEOUT, ErrorKind.MEMORY)
"""Verdicts that a busy machine may give once and not again."""


@pytest.fixture(scope="module", params=["sqlite", "duckdb"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    path = tmp_path_factory.mktemp("random") / f"pets.{request.param}"
    if request.param == "sqlite":
        with sqlite3.connect(path) as connection:
            connection.executescript(TABLES)
        connection.close()
        engine: Engine = SqliteEngine(path)
    else:
        with duckdb.connect(str(path)) as connection:
            connection.execute(TABLES)
        engine = DuckdbEngine(path, memory_bytes=200_000_000)
    before = facts(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        yield engine
        assert list(Path.cwd().iterdir()) == []
    assert facts(path) == before
    engine.close()


def must_be_sound(engine: Engine, sql: str) -> QueryResult:
    result = engine.execute(sql, LIMITS)
    assert result.status in set(QueryStatus) - {QueryStatus.INFRA_FAULT}
    if result.status is QueryStatus.OK:
        assert (result.kind, result.message) == ("", "")
        assert all(len(row) == len(result.columns) for row in result.rows)
    else:
        assert result.kind in set(ErrorKind)
        assert result.message
        assert result.rows == ()
    assert engine.execute("SELECT 1", LIMITS).rows == ((1,),)
    return result


# One engine for all examples, as in a worker: what one text leaves behind, the next would meet.
SHARED = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHARED
@given(data=st.binary(max_size=200))
def test_any_bytes_end_in_a_result(engine: Engine, data: bytes) -> None:
    must_be_sound(engine, data.decode("latin-1"))
    must_be_sound(engine, data.decode(errors="surrogateescape"))


@SHARED
@given(sql=st.text(max_size=100))
def test_any_text_ends_in_a_result(engine: Engine, sql: str) -> None:
    must_be_sound(engine, sql)
    must_be_sound(engine, "SELECT " + sql)


@settings(SHARED, max_examples=600)
@given(sql=TEXTS)
def test_any_tokens_end_in_a_result(engine: Engine, sql: str) -> None:
    must_be_sound(engine, sql)


@settings(SHARED, max_examples=600)
@given(sql=st.one_of(NEAR_SQL, NEAR_SQL, TEXTS))
def test_the_spelling_that_the_cache_knows_changes_nothing(engine: Engine, sql: str) -> None:
    written, normal = (engine.execute(one, LIMITS) for one in (sql, normalise(sql)))
    if written.kind not in CLOCK and normal.kind not in CLOCK:
        assert (written.status, written.kind) == (normal.status, normal.kind)
        assert written.rows == normal.rows
