"""Databases below a folder, as people have them."""

from pathlib import Path

import pytest

from mtsql.data.databases import database_files, database_of, find_databases


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_what_an_operating_system_leaves_beside_is_no_database(tmp_path: Path) -> None:
    pets = touch(tmp_path / "pets" / "pets.sqlite")
    for name in (
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "._pets",
        "__MACOSX/pets/._pets.sqlite",
        "__MACOSX/__MACOSX.sqlite",
        ".git/.git.sqlite",
        "pets/._pets.sqlite",
        "pets/~$pets.sqlite",
        "pets/Thumbs.db",
        "pets/pets.sqlite-wal",
        "pets/pets.sqlite-shm",
        "pets/pets.sqlite-journal",
        "pets/schema.sql",
        "empty/readme.txt",
    ):
        touch(tmp_path / name)
    assert find_databases(tmp_path) == {"pets": pets}
    assert list(database_files(tmp_path / "pets")) == [pets]


def test_a_folder_names_the_database_and_other_places_are_second(tmp_path: Path) -> None:
    files = {
        "Pets_1": touch(tmp_path / "Pets_1" / "pets_1.sqlite"),
        "cars": touch(tmp_path / "cars" / "cars.db"),
        "shops": touch(tmp_path / "shops" / "shops.sqlite"),
        "flat": touch(tmp_path / "flat.sqlite"),
    }
    touch(tmp_path / "shops" / "shops.db")
    touch(tmp_path / "shops" / "Shops.sqlite")
    touch(tmp_path / "shops.sqlite")
    touch(tmp_path / "other" / "something.sqlite")  # of which database is not certain
    assert find_databases(tmp_path) == files


@pytest.mark.parametrize("db_id", ["pets_1", "Pets_1", "pets-1", "PETS 1"])
def test_a_name_may_be_spelled_otherwise(db_id: str) -> None:
    path = Path("database/pets_1/pets_1.sqlite")
    assert database_of(db_id, {"pets_1": path, "cars_1": Path("cars")}) == path


def test_of_two_that_are_spelled_alike_only_the_exact_name_counts() -> None:
    databases = {"pets_1": Path("a"), "Pets_1": Path("b")}
    assert database_of("Pets_1", databases) == Path("b")
    assert database_of("PETS_1", databases) is None
    assert database_of("../pets_1", databases) is None
