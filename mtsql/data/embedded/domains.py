"""The nine small worlds the generator knows, declared in one line for each table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


def _values(listing: str) -> tuple[str, ...]:
    return tuple(listing.split(", "))


VOCABULARIES: Mapping[str, tuple[str, ...]] = {
    "brand": _values(
        "Aurora, Delta, Orion, Nova, Atlas, Vega, Zenith, Omega, Apex, Luna, Titan, Pearl"
    ),
    "person": _values(
        "Anna, Boris, Clara, David, Emma, Felix, Greta, Henry, Iris, Jonas, Karla, Leo"
    ),
    "title": _values(
        "Winter, Silence, Horizon, Mirror, Garden, Storm, Island, Shadow, River, Dawn"
    ),
    "animal": _values("Lions, Bears, Eagles, Wolves, Sharks, Tigers, Hawks, Foxes, Bulls, Ravens"),
    "city": _values(
        "Rome, Paris, Berlin, London, Madrid, Oslo, Vienna, Lisbon, Prague, Dublin, New York,"
        " Los Angeles"
    ),
    "country": _values(
        "Italy, France, Germany, Spain, Norway, Austria, Portugal, Ireland, Japan, Brazil,"
        " New Zealand"
    ),
    "color": _values("Red, Blue, Green, Yellow, Black, White, Brown, Orange, Purple, Silver"),
    "genre": _values("Drama, Comedy, Horror, Romance, Mystery, Fantasy, History, Crime"),
    "month": _values("January, March, April, June, July, September, October, December"),
    "shop_type": _values("Bakery, Market, Pharmacy, Boutique, Florist, Kiosk, Jeweler, Butcher"),
    "good": _values("Chair, Table, Lamp, Shirt, Watch, Bottle, Basket, Mug, Pillow, Candle"),
    "school_type": _values(
        "Public, Private, Technical, Music, Sports, Boarding, Catholic, Evening"
    ),
    "subject": _values("Math, Physics, Biology, Latin, Art, Chemistry, Geography, Logic"),
    "field": _values("Surgery, Cardiology, Neurology, Oncology, Radiology, Urology, Dental, Eye"),
    "position": _values("Keeper, Defender, Midfielder, Striker, Winger, Captain, Sweeper, Libero"),
    "style": _values("Baroque, Modern, Gothic, Cubist, Realist, Abstract, Pop, Rococo"),
    "cuisine": _values("Italian, French, Indian, Chinese, Mexican, Greek, Thai, Turkish"),
    "course": _values("Starter, Soup, Salad, Main, Dessert, Snack, Drink, Side"),
    "meal": _values("Pasta, Pizza, Curry, Stew, Burger, Risotto, Omelet, Noodles, Tacos, Pie"),
}
"""The values of each kind of text, as questions spell them: title case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRange:
    """Whole numbers of a column; thresholds in questions are multiples of `step`."""

    low: int
    high: int
    step: int = 5
    has_total: bool = True
    """Whether a sum of it means anything."""


NUMBERS: Mapping[str, NumberRange] = {
    "age": NumberRange(low=18, high=68, has_total=False),
    "cost": NumberRange(low=10, high=95),
    "days": NumberRange(low=1, high=60),
    "goals": NumberRange(low=1, high=60),
    "price": NumberRange(low=5, high=95),
    "salary": NumberRange(low=20, high=95),
    "score": NumberRange(low=10, high=99, has_total=False),
    "year": NumberRange(low=1950, high=2020, has_total=False),
}
"""Every range holds more numbers than a table has rows: no column repeats one, so none has ties."""

PREPOSITIONS: Mapping[str, str] = {
    "city": "in",
    "country": "from",
    "destination": "to",
    "month": "in",
    "name": "named",
    "origin": "from",
}
"""The short way to say a condition on a column: "in Rome" for "with city Rome"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """A table: `id`, then `PARENT_id` if it has a parent, then its texts, then its numbers."""

    name: str
    parent: str
    """Empty for a table that refers to none."""
    texts: Mapping[str, tuple[str, ...]]
    """Column name to the values it may hold."""
    numbers: Mapping[str, NumberRange]

    @property
    def columns(self) -> tuple[str, ...]:
        """What a question may ask for; keys are left out."""
        return (*self.texts, *self.numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Tables that belong together, parents before children."""

    name: str
    tables: tuple[TableSpec, ...]

    def table(self, name: str) -> TableSpec:
        return next(table for table in self.tables if table.name == name)

    def children(self, name: str) -> tuple[TableSpec, ...]:
        return tuple(table for table in self.tables if table.parent == name)


def _table(declaration: str) -> TableSpec:
    """`product<shop name=good color price`: a child of shop whose names come from the goods."""
    head, *columns = declaration.split()
    name, _, parent = head.partition("<")
    texts: dict[str, tuple[str, ...]] = {}
    numbers: dict[str, NumberRange] = {}
    for entry in columns:
        column, _, vocabulary = entry.partition("=")
        if column in NUMBERS:
            numbers[column] = NUMBERS[column]
        else:
            texts[column] = VOCABULARIES[vocabulary or column]
    return TableSpec(name=name, parent=parent, texts=texts, numbers=numbers)


def _domain(name: str, *declarations: str) -> Domain:
    return Domain(name=name, tables=tuple(_table(declaration) for declaration in declarations))


Role = Literal["in_domain", "out_of_domain"]

DOMAINS: Mapping[Role, tuple[Domain, ...]] = {
    "in_domain": (
        _domain(
            "shop",
            "shop name=brand city type=shop_type year",
            "product<shop name=good color price",
            "worker<shop name=person age",
        ),
        _domain(
            "school",
            "school name=brand city type=school_type",
            "student<school name=person country age",
            "teacher<school name=person subject salary",
        ),
        _domain(
            "flight",
            "airline name=brand country year",
            "flight<airline origin=city destination=city price",
            "pilot<airline name=person country age",
        ),
        _domain(
            "library",
            "author name=person country age",
            "book<author name=title genre year",
            "loan<book reader=person days",
        ),
        _domain(
            "hospital",
            "doctor name=person field age",
            "patient<doctor name=person city age",
            "visit<patient month cost",
        ),
        _domain(
            "football",
            "team name=animal city color",
            "player<team name=person position goals",
        ),
        _domain(
            "museum",
            "museum name=brand city year",
            "painting<museum name=title style price",
            "guide<museum name=person country age",
        ),
        _domain(
            "restaurant",
            "restaurant name=brand city cuisine score",
            "meal<restaurant name=meal type=course price",
            "cook<restaurant name=person country age",
        ),
    ),
    "out_of_domain": (
        _domain(
            "film",
            "studio name=brand city year",
            "film<studio name=title genre score",
            "actor<film name=person country age",
        ),
    ),
}
"""Out of domain: new tables, made of columns and words that the other domains use too."""
