"""Schemas read out of databases, with SQLAlchemy where it knows the engine.

Apart from `mtsql.schema`, because every process imports that one and few need SQLAlchemy.
"""

import sqlite3
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb
from sqlalchemy import Connection, NullPool, create_engine, inspect, make_url
from sqlalchemy.engine import Inspector
from sqlalchemy.exc import (
    DBAPIError,
    NoSuchTableError,
    OperationalError,
    ProgrammingError,
    SAWarning,
    SQLAlchemyError,
)
from sqlalchemy.types import NullType

from mtsql.errors import DataError
from mtsql.schema import Column, ForeignKey, Schema, Table
from mtsql.sql.duckdb_engine import why_duckdb_fails
from mtsql.sql.engines import cannot_be_read, file_of, require_readable
from mtsql.sql.quoting import quote_name
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

    Tables and views come in the order of their creation; one that cannot be read is left out, and
    so are SQLite's own tables and those in which virtual tables keep their data. Foreign keys to
    tables that are absent are left out, and the referred table and column are spelled as there.

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
            # As where queries run: what a view may not call there, it may not call here.
            connection.exec_driver_sql("PRAGMA trusted_schema = OFF")
            found = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
                " AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY rowid"
            ).scalars()
            # Where virtual tables keep what they hold; their owner shows it.
            kinds = connection.exec_driver_sql("PRAGMA table_list").all()
            shadows = {row[1] for row in kinds if row[2] == "shadow"}
            names = [name for name in found.all() if name not in shadows]
            return reflect_schema(db_id, inspect(connection), names)
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else None
        why = why_sqlite_fails(cause) if isinstance(cause, sqlite3.Error) else str(error)
        raise DataError(f"{database}: {cannot_be_read(database, why)}") from error
    finally:
        engine.dispose()


_POSTGRES_SQL = """
SELECT relname, CASE
    WHEN relkind = 'm' AND NOT relispopulated THEN 'it has not been populated'
    WHEN NOT pg_catalog.has_any_column_privilege(oid, 'SELECT') THEN 'this role may not read it'
    ELSE '' END
FROM pg_catalog.pg_class
WHERE relnamespace = (
    SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = current_schema())
AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition
"""
"""Tables, partitioned ones without their parts, views of both kinds and foreign tables; and why one
cannot be read."""


def _reflect_server(db_id: str, address: str) -> Schema:
    """What the role's default schema holds, by name."""
    url = make_url(address)
    if url.get_backend_name() in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    is_postgres = url.get_backend_name() == "postgresql"
    try:
        # No pool: the connection ends with the block.
        with (
            create_engine(url, poolclass=NullPool).connect() as connection,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", SAWarning)  # types that SQLAlchemy does not know
            inspector = inspect(connection)
            if is_postgres:
                found = [tuple(row) for row in connection.exec_driver_sql(_POSTGRES_SQL)]
            else:
                names = [*inspector.get_table_names(), *inspector.get_view_names()]
                found = [(name, "") for name in names]
            found.sort()
            schema = reflect_schema(db_id, inspector, [name for name, why in found if not why])
            closed = (f"{name}: {why}" for name, why in found if why)
            return schema.model_copy(
                update={
                    "engine": "postgresql" if is_postgres else "other",
                    "left_out": (*closed, *schema.left_out),
                }
            )
    except (SQLAlchemyError, ImportError) as error:
        why = f"({type(error).__name__}); is it up, and may this role read it?"
        if url.get_backend_name() == "postgresql" and isinstance(error, OperationalError):
            from mtsql.sql.postgres import why_postgres_is_closed  # noqa: PLC0415 - needs psycopg

            why = f"({why_postgres_is_closed(error)})"
        raise DataError(f"{db_id}: the server's schema cannot be read {why}") from error


def _reflect_duckdb(db_id: str, database: Path) -> Schema:
    """Tables and views of all schemas, those of `main` first."""
    try:
        # Not `require_readable`: to look into a file ends the lock that this process has on it.
        with duckdb.connect(str(database), read_only=True) as connection:
            # As where queries run: a view of other files cannot be read.
            connection.execute("SET enable_external_access = false")
            columns = connection.execute(
                "SELECT schema_name, table_name, column_name, lower(data_type)"
                " FROM duckdb_columns() WHERE NOT internal AND database_name = current_database()"
                " ORDER BY schema_name <> 'main', table_oid, column_index"
            ).fetchall()
            keys = connection.execute(
                "SELECT schema_name, table_name, constraint_type, constraint_column_names,"
                " referenced_table, referenced_column_names FROM duckdb_constraints()"
                " WHERE database_name = current_database()"
            ).fetchall()
            views = connection.execute(
                "SELECT schema_name, view_name FROM duckdb_views()"
                " WHERE NOT internal AND database_name = current_database()"
            ).fetchall()
            unreadable = {view: why for view in views if (why := _why_not_read(connection, *view))}
    except duckdb.Error as error:
        why = why_duckdb_fails(error, database)
        raise DataError(f"{database}: {cannot_be_read(database, why)}") from error
    primary = {(*key[:2], name) for key in keys if key[2] == "PRIMARY KEY" for name in key[3]}
    tables: dict[tuple[str, str], list[Column]] = {}
    for schema, table, name, type_name in columns:
        if (schema, table) not in unreadable:
            column = Column(name=name, type=type_name, is_primary=(schema, table, name) in primary)
            tables.setdefault((schema, table), []).append(column)
    num_called_so = Counter(table for _, table in tables)
    return Schema(
        db_id=db_id,
        tables=tuple(
            Table(name=name, columns=tuple(own), namespace="" if schema == "main" else schema)
            for (schema, name), own in tables.items()
        ),
        foreign_keys=tuple(
            ForeignKey(table=table, column=column, ref_table=ref_table, ref_column=ref_column)
            for schema, table, kind, names, ref_table, ref_names in keys
            # A key names tables without their schema, so of several of a name it means main's.
            if kind == "FOREIGN KEY"
            and (schema == "main" or num_called_so[table] == num_called_so[ref_table] == 1)
            for column, ref_column in zip(names, ref_names, strict=True)
        ),
        engine="duckdb",
        left_out=tuple(
            f"{name if schema == 'main' else f'{schema}.{name}'}: {why}"
            for (schema, name), why in sorted(unreadable.items())
        ),
    )


def _why_not_read(connection: duckdb.DuckDBPyConnection, schema: str, view: str) -> str:
    """Nothing is run; empty if the view can be read."""
    try:
        connection.execute(f"DESCRIBE SELECT * FROM {quote_name(schema)}.{quote_name(view)}")
    except duckdb.Error as error:
        return " ".join(str(error).split("\n", 1)[0].split())
    return ""


def reflect_schema(db_id: str, inspector: Inspector, table_names: Sequence[str]) -> Schema:
    """The schema that an SQLAlchemy inspector sees, for any engine; column types are its own."""
    tables: list[Table] = []
    left_out: list[str] = []
    for name in table_names:
        try:
            tables.append(_reflect_table(inspector, name))
        except (OperationalError, ProgrammingError, NoSuchTableError) as error:
            # A view of a table that is gone, a virtual table whose module is not there.
            left_out.append(f"{name}: {_cause(error)}")
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
    return Schema(
        db_id=db_id,
        tables=tuple(tables),
        foreign_keys=tuple(foreign_keys),
        left_out=tuple(left_out),
    )


def _reflect_table(inspector: Inspector, name: str) -> Table:
    if isinstance(inspector.bind, Connection) and inspector.dialect.name == "sqlite":
        # Columns may be told of what no query can read: a view that calls an unknown function.
        inspector.bind.exec_driver_sql(f"SELECT * FROM {quote_name(name)} LIMIT 0").close()
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
    """In one line."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split())
