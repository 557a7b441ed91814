"""The words that databases and questions are made of, by domain and by kind.

A database takes its tables, columns and values from these lists at random, so that no name says
more than its place in the schema does. Every noun takes a plain s in the plural.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["known", "unseen"]
"""Domains of training, and domains that only the split `test_ood` has."""

TableKind = Literal["place", "person", "thing"]


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A part of the world, and the nouns that can be tables in it."""

    name: str
    nouns: Mapping[TableKind, tuple[str, ...]]


def _domain(name: str, places: str, people: str, things: str) -> Domain:
    nouns: Mapping[TableKind, tuple[str, ...]] = {
        "place": _list(places),
        "person": _list(people),
        "thing": _list(things),
    }
    return Domain(name=name, nouns=nouns)


DOMAINS: Mapping[Role, tuple[Domain, ...]] = {
    "known": (
        _domain(
            "retail",
            "shop store market kiosk mall outlet",
            "cashier customer vendor buyer clerk trader",
            "product bargain basket voucher parcel coupon receipt",
        ),
        _domain(
            "school",
            "school college seminar_room classroom dorm lecture_hall",
            "student teacher tutor pupil dean lecturer",
            "lesson exam textbook seminar diploma notebook essay",
        ),
        _domain(
            "aviation",
            "airport hangar terminal runway airline heliport",
            "pilot steward mechanic passenger controller navigator",
            "flight jet propeller ticket suitcase helicopter drone",
        ),
        _domain(
            "books",
            "bookstore archive publisher reading_room printshop",
            "author reader editor translator poet librarian",
            "novel chapter loan poem manuscript bookmark comic",
        ),
        _domain(
            "medicine",
            "hospital clinic ward xray_room nursing_room",
            "doctor nurse patient surgeon dentist paramedic",
            "visit vaccine bandage syringe scan prescription pill",
        ),
        _domain(
            "football",
            "stadium club dugout arena locker_room",
            "player midfielder referee striker goalkeeper scout",
            "goal cup jersey whistle transfer corner_kick fixture",
        ),
        _domain(
            "museum",
            "museum pavilion exhibit depot showroom",
            "curator guide painter sculptor visitor collector",
            "painting statue fossil vase mosaic portrait etching",
        ),
        _domain(
            "dining",
            "restaurant diner tavern bistro kitchen canteen",
            "cook waiter barista guest chef sommelier",
            "meal dessert recipe sauce menu salad pancake",
        ),
        _domain(
            "farming",
            "farm barn orchard pasture meadow vineyard",
            "farmer shepherd milker beekeeper picker gardener",
            "tractor harvest cow turnip plow pumpkin melon",
        ),
        _domain(
            "shipping",
            "harbor dock pier shipyard lighthouse warehouse",
            "captain sailor docker stevedore skipper boatswain",
            "ship cargo anchor container voyage crane barge",
        ),
        _domain(
            "stage",
            "theater opera_house playhouse auditorium foyer",
            "dancer singer director prompter usher comedian",
            "ballet concert costume rehearsal curtain spotlight drama",
        ),
        _domain(
            "music",
            "studio record_label bandstand soundroom",
            "drummer guitarist composer pianist violinist producer",
            "song album guitar violin cello trumpet ballad",
        ),
        _domain(
            "travel",
            "hotel hostel resort motel campsite lodge",
            "tourist porter concierge traveler camper innkeeper",
            "booking suite souvenir tour excursion passport cruise",
        ),
        _domain(
            "banking",
            "bank savings_office vault exchange_office countinghouse",
            "banker teller investor broker auditor lender",
            "account deposit mortgage coin bond dividend invoice",
        ),
        _domain(
            "justice",
            "court prison station jail chamber",
            "judge lawyer juror prosecutor detective sheriff",
            "trial verdict lawsuit warrant crime statute appeal",
        ),
        _domain(
            "press",
            "newsroom magazine press_room newsstand bureau",
            "reporter columnist photographer cartoonist blogger critic",
            "article headline interview cartoon photo editorial podcast",
        ),
        _domain(
            "rail",
            "railway platform junction tunnel turntable",
            "conductor engineer commuter dispatcher signaller stoker",
            "train wagon locomotive timetable seat carriage rail",
        ),
        _domain(
            "animals",
            "zoo aquarium cage kennel stable shelter",
            "keeper breeder trainer veterinarian zookeeper groomer",
            "lion penguin parrot elephant tiger dolphin otter",
        ),
        _domain(
            "fishing",
            "lake river pond fishpond wharf",
            "angler fisher diver whaler netter",
            "trout net lobster salmon fishhook shrimp crab",
        ),
        _domain(
            "mining",
            "mine coalfield shaft pit smelter",
            "miner geologist driller overseer prospector",
            "crystal shovel diamond helmet ingot nugget drill",
        ),
        _domain(
            "building",
            "tower bridge cottage skyscraper penthouse",
            "architect builder plumber carpenter mason roofer",
            "brick hammer blueprint beam ladder scaffold door",
        ),
        _domain(
            "fashion",
            "boutique atelier wardrobe",
            "designer tailor model stylist seamster milliner",
            "blouse sweater scarf button ribbon sandal jacket",
        ),
        _domain(
            "science",
            "institute greenhouse reactor",
            "scientist chemist physicist biologist researcher botanist",
            "experiment sample molecule microscope theorem patent enzyme",
        ),
        _domain(
            "mail",
            "parcel_locker sorting_room counter post_office",
            "carrier courier sorter sender recipient",
            "letter stamp postcard envelope telegram label",
        ),
        _domain(
            "cycling",
            "track velodrome workshop bike_path",
            "cyclist sprinter climber racer rider",
            "bicycle pedal race saddle tire medal lap",
        ),
        _domain(
            "telecom",
            "network antenna exchange callcenter",
            "operator subscriber technician caller installer",
            "phone modem cable router contract signal message",
        ),
        _domain(
            "computing",
            "server datacenter startup lab",
            "programmer tester hacker analyst admin gamer",
            "app bug laptop sensor widget script game",
        ),
        _domain(
            "sweets",
            "coffeehouse candy_shop tearoom",
            "baker confectioner taster decorator",
            "cake cookie donut truffle waffle muffin pretzel",
        ),
    ),
    "unseen": (
        _domain(
            "film",
            "cinema soundstage screening_room",
            "actor stunt_double camera_operator screenwriter projectionist",
            "movie trailer screenplay sequel reel premiere",
        ),
        _domain(
            "space",
            "planet spaceport orbiter moonbase",
            "astronaut cosmonaut astronomer stargazer",
            "rocket satellite comet rover capsule telescope",
        ),
        _domain(
            "castle",
            "citadel dungeon watchtower manor",
            "knight squire jester archer baron",
            "sword shield banner crown gauntlet lance",
        ),
        _domain(
            "winter_sport",
            "ski_slope ice_rink ski_lift chalet",
            "skier skater snowboarder biathlete",
            "sled ski snowball puck mitten snowmobile",
        ),
        _domain(
            "circus",
            "arena_ring tent carousel fairground",
            "clown acrobat juggler magician tamer",
            "trapeze unicycle balloon puppet stunt lollipop",
        ),
    ),
}

TABLE_MODIFIERS: tuple[str, ...] = _list(
    "night river city royal junior senior summer winter north south east west old young local"
    " global private public gold silver green blue red grand little mobile rapid quiet modern"
    " classic guest home field garden street corner island mountain forest desert coast valley"
    " central upper lower inner outer spare daily weekly monthly holiday festival partner rival"
)
"""What may stand before a noun, with an underscore: night_guard."""

TextKind = Literal[
    "name", "person", "city", "country", "color", "material", "style", "status", "month", "size"
]

TEXT_COLUMNS: Mapping[Role, Mapping[TextKind, tuple[str, ...]]] = {
    "known": {
        "name": _list("name title label alias nickname codename"),
        "person": _list(
            "owner manager founder leader sponsor agent boss deputy mentor heir creator holder"
            " chairman warden partner supplier"
        ),
        "city": _list(
            "city town origin destination hometown residence birthplace headquarter municipality"
            " district location"
        ),
        "country": _list("country nation state homeland region territory"),
        "color": _list("color tint shade paint hue tone"),
        "material": _list("material fabric coating surface frame lining"),
        "style": _list("style genre design fashion pattern theme look"),
        "status": _list("status mood quality level grade condition rating reputation"),
        "month": _list("month opening deadline payday birth_month"),
        "size": _list("type class category variety sort"),
    },
    "unseen": {
        "name": _list("name caption brand"),
        "person": _list("landlord inventor steersman patron rescuer"),
        "city": _list("village capital suburb hideout"),
        "country": _list("kingdom province realm"),
        "color": _list("pigment glow dye"),
        "material": _list("textile shell fiber"),
        "style": _list("manner flavor decor"),
        "status": _list("temper health"),
        "month": _list("debut premiere_month"),
        "size": _list("species breed lineage"),
    },
}
"""Columns of text, by what they hold; those of unseen domains occur in no other, but for `name`."""

COLUMN_MODIFIERS: tuple[str, ...] = _list(
    "first second third last main former next usual best worst current early late official"
    " secret legal total real true base final new old other extra"
)

PLAIN_WORDS: Mapping[TextKind, tuple[str, ...]] = {
    "color": _list(
        "Red Blue Green Yellow Black White Brown Orange Purple Silver Golden Pink Gray Violet"
        " Crimson Turquoise Beige Scarlet Ivory Amber Indigo Maroon Olive Lilac"
    ),
    "material": _list(
        "Wood Steel Glass Cotton Leather Marble Silk Copper Plastic Wool Granite Paper Bronze Clay"
        " Linen Rubber Concrete Velvet Bamboo Brass Ceramic Denim Nylon Iron"
    ),
    "style": _list(
        "Baroque Modern Gothic Cubist Realist Abstract Rococo Drama Comedy Horror Romance Mystery"
        " Fantasy History Classic Rustic Minimal Vintage Tropical Nautical Urban Folk"
        " Retro Pastoral"
    ),
    "status": _list(
        "Excellent Good Fair Poor Calm Angry Happy Gloomy Stable Broken Perfect Damaged Famous"
        " Unknown Popular Forgotten Strong Weak Fresh Rotten Noble Humble Eager Lazy"
    ),
    "month": _list(
        "January February March April May June July August September October November December"
    ),
    "size": _list(
        "Tiny Small Medium Large Giant Compact Narrow Wide Heavy Light Double Single Round Square"
        " Flat Curved Deluxe Basic Standard Custom Portable Fixed Hybrid Electric"
    ),
}
"""Values of the columns whose words everybody knows."""

Syllables = Literal["begin", "middle", "person", "city", "country", "name"]
SYLLABLES: Mapping[Syllables, tuple[str, ...]] = {
    "begin": _list(
        "ba be bo bra ca co da de do dra el fa fe fi ga go gri ha he ho ja jo ka ke kri la le lo lu"
        " ma me mi mo na ne ni no or pa pe po ra re ri ro sa se so sta ta te ti to tra ul va ve vi"
        " wa we yo za ze zo"
    ),
    "middle": _list("la le li lo ma mi mo na ne no ra re ri ro sa se ta te ti va vi"),
    "person": _list("na ra ko lin ton bert mir sa vin dar nel rik lia mon las"),
    "city": _list("burg ton ville ford dale port field gard mouth haven ham stad"),
    "country": _list("land nia ria stan via donia mark"),
    "name": _list("ra nor lex dus ma tor rix va bo tek lux nis mon dor"),
}
"""Proper names are put together from these: Bramiko, Staford, Velonia."""


COINED: Mapping[Literal["onset", "vowel", "middle", "end"], tuple[str, ...]] = {
    "onset": _list("b bl br d dr f fl g gl gr h j k kl kr l m n p pl pr r s sk sl st t th tr v z"),
    "vowel": _list("a e i o u"),
    "middle": _list("b d f g k l ll m mb n nd nt p r rd rm s st t v z"),
    "end": _list("b d f g k l m n p r t rn nt lk"),
}
"""Words that no language has are put together from these: stolvin, krambet."""


def reserved_words() -> frozenset[str]:
    """What a coined word must not be: one that a database may have by another way."""
    nouns = (
        words for role in DOMAINS.values() for domain in role for words in domain.nouns.values()
    )
    columns = (words for role in TEXT_COLUMNS.values() for words in role.values())
    parts = [
        *nouns,
        *columns,
        *map(tuple, NUMBER_COLUMNS.values()),
        TABLE_MODIFIERS,
        COLUMN_MODIFIERS,
    ]
    return frozenset(word for words in parts for word in words)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRange:
    """Whole numbers of a column; thresholds in questions are multiples of `step`."""

    low: int
    high: int
    step: int = 5
    has_total: bool = True
    """Whether a sum of it means anything."""


_SMALL = NumberRange(low=1, high=60)
_MEDIUM = NumberRange(low=5, high=95)
_SCORE = NumberRange(low=10, high=99, has_total=False)
_AGE = NumberRange(low=18, high=68, has_total=False)
_YEAR = NumberRange(low=1950, high=2020, has_total=False)

NUMBER_COLUMNS: Mapping[Role, Mapping[str, NumberRange]] = {
    "known": {
        **dict.fromkeys(
            _list("days hours visits points wins floors rooms seats copies bonus"), _SMALL
        ),
        **dict.fromkeys(
            _list(
                "price cost salary weight height length width budget profit income debt fee tax"
                " distance volume stock fuel power wage rent"
            ),
            _MEDIUM,
        ),
        **dict.fromkeys(_list("score percent risk speed depth angle temperature"), _SCORE),
        **dict.fromkeys(_list("age seniority"), _AGE),
        **dict.fromkeys(_list("year founding_year"), _YEAR),
    },
    "unseen": {
        **dict.fromkeys(_list("laps nights duels tricks"), _SMALL),
        **dict.fromkeys(_list("ransom bounty thrust payload"), _MEDIUM),
        **dict.fromkeys(_list("altitude bravery gravity"), _SCORE),
        **dict.fromkeys(_list("maturity"), _AGE),
        **dict.fromkeys(_list("vintage epoch"), _YEAR),
    },
}
"""Every range holds more numbers than a table has rows: no column repeats one, so none has ties."""

PREPOSITIONS: Mapping[str, str] = {
    "city": "in",
    "country": "from",
    "destination": "to",
    "month": "in",
    "name": "named",
    "origin": "from",
    "town": "in",
}
"""The short way to say a condition on a column: "in Rome" for "with city Rome"."""
