"""`mtsql sql`: one statement, or lines of them, run as an agent's SQL is run."""

import argparse
import sys
from pathlib import Path

from mtsql.errors import ConfigError
from recipes.commands.shared import Commands, add_command, positive, seconds


def add(commands: Commands) -> None:
    parser = add_command(commands, "sql", run, "run SQL as an agent's SQL is run")
    parser.add_argument("query", nargs="?", metavar="SQL", help="one statement that only reads")
    parser.add_argument(
        "--db", metavar="FILE_OR_URL", help="a SQLite or .duckdb file, or a SQLAlchemy URL"
    )
    parser.add_argument("--db-root", type=Path, metavar="DIR", help="holds DB/DB.sqlite by name")
    parser.add_argument("--timeout-s", type=seconds, default=2.0, metavar="S", help="default: 2")
    parser.add_argument(
        "--max-rows", type=positive, default=1000, metavar="N", help="default: 1000"
    )
    parser.add_argument(
        "--jsonl",
        action="store_true",
        help="read {id, sql, db} objects, one a line, and write one answer a line",
    )


def run(arguments: argparse.Namespace) -> int:
    from mtsql.sql.records import QueryLimits
    from recipes.sql.answers import answer_lines, databases_of, print_answer, warn

    databases = databases_of(arguments.db, arguments.db_root)
    limits = QueryLimits(timeout_s=arguments.timeout_s, max_rows=arguments.max_rows)
    if not arguments.jsonl:
        if arguments.db is None or arguments.query is None:
            raise ConfigError("give --db FILE_OR_URL and a query, or --jsonl to read requests")
        warn(databases)
        return 0 if print_answer(databases, arguments.query, limits) else 1
    if arguments.query is not None:
        raise ConfigError("--jsonl reads its queries from standard input; give no other")
    if sys.stdin is None:
        raise ConfigError("--jsonl reads its queries from standard input, which is closed")
    warn(databases)
    default = None if arguments.db is None else next(iter(databases))
    answer_lines(databases, default, sys.stdin.fileno(), limits, _write_now)
    return 0


def _write_now(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.flush()
