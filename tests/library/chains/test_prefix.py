"""Chains run view by view on kept rows, compared with the composed queries."""

import json
from collections import Counter

import pytest
import sqlglot
from sqlglot import exp

from helpers.places import real_data
from mtsql.chains.chain import Chain, View
from mtsql.chains.prefix import is_settled, request_of, view_texts
from mtsql.sql.kept import KeptRoom, KeptViews
from mtsql.sql.records import QueryLimits
from mtsql.sql.sqlite_engine import SqliteEngine

LIMITS = QueryLimits(timeout_s=60.0)


@pytest.mark.parametrize(
    ("sql", "settled"),
    [
        ("SELECT name, price FROM shop WHERE price > 5 ORDER BY price", True),
        ("SELECT city, count(*), avg(price) FROM shop GROUP BY city HAVING count(*) > 1", True),
        ("SELECT lower(city), max(price) AS m FROM shop GROUP BY lower(city) ORDER BY m", True),
        ("SELECT max(price) - min(price) FROM shop", True),
        ("SELECT a FROM t UNION SELECT b FROM u", True),
        ("SELECT name FROM t WHERE n = (SELECT max(n) FROM t)", True),
        ("SELECT name FROM shop ORDER BY price LIMIT 1", False),
        ("SELECT name FROM shop WHERE id IN (SELECT id FROM sale LIMIT 3)", False),
        ("SELECT name, count(*) FROM shop GROUP BY city", False),
        ("SELECT name, max(price) FROM shop", False),
        ("SELECT city, count(*) FROM shop GROUP BY city ORDER BY name", False),
        ("SELECT *, count(*) FROM shop GROUP BY city", False),
        ("SELECT group_concat(name) FROM shop", False),
        ("SELECT name, row_number() OVER (ORDER BY price) FROM shop", False),
        ("SELECT random() FROM shop", False),
        ("SELECT json(name) FROM shop", False),
        ("WITH a AS (SELECT 1) SELECT * FROM a", False),
        ("SELECT 1; SELECT 2", False),
        ("DELETE FROM shop", False),
        ("((", False),
    ],
)
def test_what_the_text_alone_settles(sql, settled):
    assert is_settled(sql) is settled


def test_a_chain_is_kept_whole_or_not_at_all():
    settled = Chain((View(name="a", sql="SELECT 1"), View(name="order", sql="SELECT * FROM a")))
    assert view_texts(settled) == (("a", "SELECT 1"), ('"order"', "SELECT * FROM a"))
    request = request_of("shops", settled, LIMITS)
    assert (request.sql, request.views) == (settled.sql, view_texts(settled))
    assert view_texts(settled.extend(View(name="b", sql="SELECT * FROM a LIMIT 1"))) == ()


def chains_of(gold):
    """Chains of a gold query: its conditions in a view, and each of its tables in one."""
    tree = sqlglot.parse_one(gold, dialect="sqlite")
    if not isinstance(tree, exp.Select) or tree.args.get("from_") is None:
        return
    first, where = tree.args["from_"].this, tree.args.get("where")
    if isinstance(first, exp.Table) and not tree.args.get("joins"):
        rows = exp.select("*").from_(first.copy())
        rows.set("where", where and where.copy())
        rest = tree.copy()
        rest.set("where", None)
        rest.args["from_"].set("this", exp.to_table("v0").as_(first.alias_or_name))
        yield [rows, rest]
    rest = tree.copy()
    parts = []
    for place, table in enumerate(list(rest.find_all(exp.Table))):
        parts.append(exp.select("*").from_(exp.to_table(table.name)))
        table.replace(exp.to_table(f"v{place}").as_(table.alias_or_name))
    yield [*parts, rest]


def test_kept_and_computed_results_are_equal_over_sparc():
    counts = Counter()
    data = real_data("sparc/train.json")
    dialogues = json.loads((data / "sparc" / "train.json").read_text(encoding="utf-8"))
    for entry in dialogues[::60]:
        name = entry["database_id"]
        path = data / "database" / name / f"{name}.sqlite"
        if not path.exists() or path.stat().st_size > 1_000_000:
            continue
        engine = SqliteEngine(path)
        engine.kept = KeptViews(
            engine._connection, KeptRoom(1 << 24), keep_from_steps=0, steps_per_cell=0
        )
        for turn in entry["interaction"]:
            for parts in chains_of(turn["query"]):
                texts = [part.sql("sqlite") for part in parts]
                chain = Chain(tuple(View(name=f"v{n}", sql=sql) for n, sql in enumerate(texts)))
                for num_views in range(1, len(texts) + 1):
                    prefix = chain.prefix(num_views)
                    views = view_texts(prefix)
                    counts["runs"] += 1
                    counts["on kept rows"] += bool(views and engine.kept.rewrite(views))
                    want = engine.execute(prefix.sql, LIMITS)
                    got = engine.execute_view(prefix.sql, views, LIMITS) if views else want
                    assert (got.status, got.columns) == (want.status, want.columns), prefix.sql
                    assert sorted(map(repr, got.rows)) == sorted(map(repr, want.rows)), prefix.sql
        engine.close()
    assert counts["on kept rows"] > 0.3 * counts["runs"] > 60
