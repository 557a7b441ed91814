"""Schemas read out of databases, with SQLAlchemy where it knows the engine.

Apart from `mtsql.schema`, because every process imports that one and few need SQLAlchemy.
"""

import sqlite3
import warnings
from collections.abc import Sequence
from pathlib import Path

import duckdb
from sqlalchemy import NullPool, create_engine, inspect, make_url
from sqlalchemy.engine import Inspector
from sqlalchemy.exc import DBAPIError, OperationalError, SAWarning, SQLAlchemyError
from sqlalchemy.types import NullType

from mtsql.errors import DataError
from mtsql.schema import Column, ForeignKey, Schema, Table
from mtsql.sql.duckdb_engine import why_duckdb_fails
from mtsql.sql.engines import cannot_be_read, file_of, require_readable
from mtsql.sql.sqlite_engine import why_sqlite_fails


def reflect(db_id: str, address: str | Path) -> Schema:
    """Read the schema at an address as `mtsql.sql` knows them: a file, or an SQLAlchemy URL.

    Raises:
        DataError: nothing can be read there; the text holds no part of a URL.
    """
    file = file_of(address)
    if file is None:
        return _reflect_server(db_id, str(address))
    if file.suffix == ".duckdb" or str(address).startswith("duckdb:"):
        return _reflect_duckdb(db_id, file)
    return reflect_sqlite(db_id, file)


def reflect_sqlite(db_id: str, database: Path) -> Schema:
    """Read the schema out of an SQLite file with SQLAlchemy, without writing to it.

    Tables come in the order of their creation. Foreign keys to tables that are absent are left out,
    and the referred table and column are spelled as in that table.

    Raises:
        DataError: the file is absent, no SQLite database or not all of one.
    """
    require_readable(database)
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
        cause = error.orig if isinstance(error, DBAPIError) else None
        why = why_sqlite_fails(cause) if isinstance(cause, sqlite3.Error) else str(error)
        raise DataError(f"{database}: {cannot_be_read(database, why)}") from error
    finally:
        engine.dispose()


def _reflect_server(db_id: str, address: str) -> Schema:
    """Tables of the role's default schema, by name."""
    url = make_url(address)
    if url.get_backend_name() in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    try:
        # No pool: the connection ends with the block.
        with create_engine(url, poolclass=NullPool).connect() as connection:
            inspector = inspect(connection)
            schema = reflect_schema(db_id, inspector, sorted(inspector.get_table_names()))
            is_known = url.get_backend_name() == "postgresql"
            return schema.model_copy(update={"engine": "postgresql" if is_known else "other"})
    except (SQLAlchemyError, ImportError) as error:
        why = f"({type(error).__name__}); is it up, and may this role read it?"
        if url.get_backend_name() == "postgresql" and isinstance(error, OperationalError):
            from mtsql.sql.postgres import why_postgres_is_closed  # noqa: PLC0415 - needs psycopg

            why = f"({why_postgres_is_closed(error)})"
        raise DataError(f"{db_id}: the server's schema cannot be read {why}") from error


def _reflect_duckdb(db_id: str, database: Path) -> Schema:
    try:
        # Not `require_readable`: to look into a file ends the lock that this process has on it.
        with duckdb.connect(str(database), read_only=True) as connection:
            columns = connection.execute(
                "SELECT table_name, column_name, lower(data_type) FROM duckdb_columns()"
                " WHERE NOT internal AND schema_name = 'main' ORDER BY table_oid, column_index"
            ).fetchall()
            keys = connection.execute(
                "SELECT table_name, constraint_type, constraint_column_names, referenced_table,"
                " referenced_column_names FROM duckdb_constraints() WHERE schema_name = 'main'"
            ).fetchall()
    except duckdb.Error as error:
        why = why_duckdb_fails(error, database)
        raise DataError(f"{database}: {cannot_be_read(database, why)}") from error
    primary = {(key[0], name) for key in keys if key[1] == "PRIMARY KEY" for name in key[2]}
    tables: dict[str, list[Column]] = {}
    for table, name, type_name in columns:
        column = Column(name=name, type=type_name, is_primary=(table, name) in primary)
        tables.setdefault(table, []).append(column)
    return Schema(
        db_id=db_id,
        tables=tuple(Table(name=name, columns=tuple(own)) for name, own in tables.items()),
        foreign_keys=tuple(
            ForeignKey(table=key[0], column=column, ref_table=key[3], ref_column=ref_column)
            for key in keys
            if key[1] == "FOREIGN KEY"
            for column, ref_column in zip(key[2], key[4], strict=True)
        ),
        engine="duckdb",
    )


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
