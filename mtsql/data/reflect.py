"""Schemas read out of databases with SQLAlchemy.

Apart from `mtsql.schema`, because every process imports that one and few need SQLAlchemy.
"""

import sqlite3
import warnings
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import NullPool, create_engine, inspect
from sqlalchemy.engine import Inspector
from sqlalchemy.exc import DBAPIError, SAWarning, SQLAlchemyError
from sqlalchemy.types import NullType

from mtsql.errors import DataError
from mtsql.schema import Column, ForeignKey, Schema, Table


def reflect_sqlite(db_id: str, database: Path) -> Schema:
    """Read the schema out of an SQLite file with SQLAlchemy, without writing to it.

    Tables come in the order of their creation. Foreign keys to tables that are absent are left out,
    and the spelling of the referred table and column is that of the referred table.

    Raises:
        DataError: the file is absent or no SQLite database.
    """
    uri = f"{database.absolute().as_uri()}?mode=ro&immutable=1"
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool
    )
    try:
        with engine.connect() as connection, warnings.catch_warnings():
            # SQLite takes INTEGER(11) and keys to absent tables; SQLAlchemy warns and reads on.
            warnings.simplefilter("ignore", SAWarning)
            names = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
                " AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY rowid"
            ).scalars()
            return reflect_schema(db_id, inspect(connection), tuple(names))
    except SQLAlchemyError as error:
        raise DataError(
            f"{database}: cannot be read as an SQLite database ({_cause(error)}); "
            "name a file made by SQLite"
        ) from error
    finally:
        engine.dispose()


def reflect_schema(db_id: str, inspector: Inspector, table_names: Sequence[str]) -> Schema:
    """The schema that an SQLAlchemy inspector sees, for any engine; column types are its own."""
    tables = tuple(_reflect_table(inspector, name) for name in table_names)
    # Engines compare names without case; SQLite even lets a key name a table that is not there.
    spelling = {
        (table.name.casefold(), column.name.casefold()): (table.name, column.name)
        for table in tables
        for column in table.columns
    }
    foreign_keys: list[ForeignKey] = []
    for table in tables:
        for key in inspector.get_foreign_keys(table.name):
            pairs = zip(key["constrained_columns"], key["referred_columns"], strict=False)
            for column, ref_column in pairs:
                end = spelling.get((table.name.casefold(), column.casefold()))
                ref = spelling.get((key["referred_table"].casefold(), ref_column.casefold()))
                if end and ref:
                    foreign_keys.append(
                        ForeignKey(table=end[0], column=end[1], ref_table=ref[0], ref_column=ref[1])
                    )
    return Schema(db_id=db_id, tables=tables, foreign_keys=tuple(foreign_keys))


def _reflect_table(inspector: Inspector, name: str) -> Table:
    primary = inspector.get_pk_constraint(name)["constrained_columns"]
    return Table(
        name=name,
        columns=tuple(
            Column(
                name=column["name"],
                type="others"
                if isinstance(column["type"], NullType)
                else str(column["type"]).lower(),
                is_primary=column["name"] in primary,
            )
            for column in inspector.get_columns(name)
        ),
    )


def _cause(error: SQLAlchemyError) -> str:
    return str(error.orig) if isinstance(error, DBAPIError) else str(error)
