"""Schemas read out of databases of every engine; those of SQLite stand in test_readers."""

from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from helpers.shops import write_shops
from mtsql.data.reflect import reflect
from mtsql.errors import DataError
from mtsql.schema import Column, ForeignKey, Table

if TYPE_CHECKING:
    from helpers.postgres_server import PostgresServer


def test_a_duckdb_file_has_its_types_and_keys(tmp_path: Path) -> None:
    path = tmp_path / "shops.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE shop (id INTEGER PRIMARY KEY, name VARCHAR)")
        connection.execute("CREATE TABLE sale (price DOUBLE, shop_id INT REFERENCES shop (id))")
    schema = reflect("shops", path)
    assert schema.tables == (
        Table(
            name="shop",
            columns=(
                Column(name="id", type="integer", is_primary=True),
                Column(name="name", type="varchar"),
            ),
        ),
        Table(
            name="sale",
            columns=(Column(name="price", type="double"), Column(name="shop_id", type="integer")),
        ),
    )
    assert schema.foreign_keys == (
        ForeignKey(table="sale", column="shop_id", ref_table="shop", ref_column="id"),
    )
    assert reflect("shops", f"duckdb:///{path}") == schema


def test_a_url_of_a_file_is_that_file(tmp_path: Path) -> None:
    path = write_shops(tmp_path / "shops.sqlite")
    assert reflect("shops", f"sqlite:///{path}") == reflect("shops", path)


@pytest.mark.postgres
def test_a_server_is_read_as_its_reader(postgres: "PostgresServer") -> None:
    [pet] = [table for table in reflect("pets", postgres.reader_url).tables if table.name == "pet"]
    assert [column.name for column in pet.columns][:2] == ["id", "name"]


def test_a_server_that_is_down_is_named_without_its_url() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(DataError) as caught:
        reflect("pets", "postgresql://me:secret@127.0.0.1:1/pets")
    assert str(caught.value).startswith("pets: the server's schema cannot be read")
    assert "secret" not in str(caught.value)
