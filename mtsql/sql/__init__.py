"""Running untrusted SQL, on SQLite, DuckDB and PostgreSQL behind one read-only interface.

Covered. Each line is a group of attacks in tests/hostile.yaml, played on every engine through a
real pool; none changes or makes a file, and the pool answers afterwards.

- writes: rows, in every form of DML, behind a CTE, in a subquery, with RETURNING
- schema changes: tables, views, triggers, sequences, functions, temporary ones included
- writes behind another word: EXPLAIN ANALYZE, COPY, PREPARE, EXECUTE, DO, CALL
- files and network: ATTACH, VACUUM INTO, COPY TO, readers, extensions, large objects
- tables that tell of the host: settings, paths, other sessions' queries
- settings: PRAGMA, SET, set_config, memory and time limits
- transactions, locks and other sessions: BEGIN, advisory locks, LISTEN, kills of backends
- several statements: with comments, literals and dollar quotes between them
- SQL in texts: functions that run a statement from a string
- another spelling of a forbidden name: case, quoting, comments, escapes
- runaways: endless recursion, cross joins, huge ranges
- bombs inside one function: where no engine looks at its interrupt; the worker is killed
- growth: rows, cells, bytes, one value, sorts, memory
- kept views: their names, columns and rows; no way to what another chain keeps
- nesting and length: parentheses, compound selects, lists, long texts
- text tricks: NUL, surrogates, zero-width characters, look-alikes, unterminated quotes
- mistakes: columns, tables, functions and syntax get a typed error and no path of the host
- look-alikes: what only looks dangerous runs, with the rows that it must give

A file is read as it stands: an SQLite database with changes in a write-ahead log or a rollback
journal next to it is refused, when the pool starts and while it runs.

Not covered: work units on DuckDB and PostgreSQL, so that a verdict on a slow query depends on the
machine's load there; a server's own memory; what the owner's own views and functions do on a
server; databases that SQLAlchemy reaches beyond these three, of which
`mtsql.sql.engines.not_enforced` says what they lack. The engines' own docstrings go into detail.

    pool      LocalPool: queues, cache, limits; one for each machine
    lane      a group of workers; quick queries do not wait for slow ones
    process   worker processes, forked from a template, killed when they overrun
    worker    what runs in such a process: an engine for each database
    kept      rows of a chain's views, for the next query on them
    engines   which engine reads which database
    remote    the pool of this machine for its other processes, over a socket
"""
