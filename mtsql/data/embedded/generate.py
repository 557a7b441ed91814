"""Dialogues that are checked against their databases, and the folder that holds both.

What the data is for: an agent that executes its SQL, notices an empty result and corrects it must
beat one that does not. So a database stores each text column in title case or in upper case, the
schema does not say which, and a question always says title case. In a turn tagged `trap` no
earlier gold SQL shows the form, and the other form is known to give an empty result.
"""

import sqlite3
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from mtsql.data.dataset import SPLITS, staging_folder, write_dataset
from mtsql.data.embedded.conditions import Scene
from mtsql.data.embedded.grammar import OPERATIONS, Candidate, start
from mtsql.data.embedded.lexicon import DOMAINS, Role
from mtsql.data.embedded.populate import (
    Cell,
    Instance,
    Row,
    database_id,
    make_instance,
    write_sqlite,
)
from mtsql.data.embedded.query import (
    AverageIs,
    Condition,
    HasChild,
    HasNoChild,
    Query,
    Ref,
    TextIs,
    to_sql,
)
from mtsql.data.reflect import reflect_sqlite
from mtsql.dialogue import Dialogue, Turn
from mtsql.evaluation.em.hardness import hardness
from mtsql.schema import Schema
from mtsql.sql.records import suspicion_of_rows

TRAIN_INSTANCES = range(1, 9)
HELD_OUT_INSTANCES = range(9, 11)
VALID_INSTANCES = range(11, 13)
UNSEEN_INSTANCES = range(1, 9)
COINED_INSTANCES = range(13, 29)
"""Of train only: names that nobody has heard of make a policy read, as an unseen domain does."""

ABSENT_SHARE = 0.02
"""How often a turn tries to ask for a value that no row holds; some tries find no such question."""
MAX_TRIES = 60
"""Candidates for one turn before the dialogue is started over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """An instance, the schema of its file, and its file's answers."""

    instance: Instance
    path: Path
    schema: Schema
    connection: sqlite3.Connection
    answers: dict[str, tuple[Row, ...]] = field(default_factory=dict[str, tuple[Row, ...]])
    """Queries repeat a lot; the file does not change."""

    def run(self, query: Query, *, misspelt: frozenset[Ref] = frozenset()) -> tuple[Row, ...]:
        """Rows of the query, the columns in `misspelt` written in the form they do not hold."""

        def spell(ref: Ref, value: str) -> str:
            if ref in misspelt:
                return self.instance.misspell(ref, value)
            return self.instance.spell(ref, value)

        sql = to_sql(query, spell, self.instance.layout.key)
        if sql not in self.answers:
            self.answers[sql] = tuple(self.connection.execute(sql))
        return self.answers[sql]

    def texts(self, query: Query, ref: Ref) -> list[str]:
        """The values of a text column in the query's rows, sorted, in title case."""
        return sorted({cell.title() for cell in self._column(query, ref) if isinstance(cell, str)})

    def numbers(self, query: Query, ref: Ref) -> list[int]:
        return sorted({cell for cell in self._column(query, ref) if isinstance(cell, int)})

    def _column(self, query: Query, ref: Ref) -> list[Cell]:
        bare = Query(table=query.table, select=(ref,), conditions=query.conditions)
        return [cell for (cell,) in self.run(bare)]


def generate(
    out: Path,
    *,
    seed: int,
    num_train: int = 2500,
    num_valid: int = 40,
    num_test: int = 50,
    num_test_unseen_db: int = 40,
    num_test_ood: int = 60,
) -> None:
    """Write databases and dialogues to `out`, in the form of `mtsql.data.dataset`.

    valid and test share the schemas of train but none of its databases; test_ood has a domain of
    its own. No sequence of questions occurs twice. The same arguments give the same bytes, as long
    as the SQLite version is the same; test, test_ood and valid do not depend on `num_train`.

    Args:
        out: replaced whole if it holds a prepared dataset; refused if it holds anything else.
        num_train, num_valid, num_test, num_test_ood: number of dialogues.

    Raises:
        DataError: `out` holds something else, or cannot be written.
    """
    # Held-out splits first: what they hold is kept out of train, not the other way round.
    plan: tuple[tuple[str, int, Role, Sequence[int]], ...] = (
        ("test", num_test, "known", TRAIN_INSTANCES),
        ("test_unseen_db", num_test_unseen_db, "known", HELD_OUT_INSTANCES),
        ("test_ood", num_test_ood, "unseen", UNSEEN_INSTANCES),
        ("valid", num_valid, "known", VALID_INSTANCES),
        ("train", num_train, "known", _mixed(TRAIN_INSTANCES, COINED_INSTANCES)),
    )
    with staging_folder(out) as folder, ExitStack() as connections:
        worlds: dict[str, _World] = {}

        def world(role: Role, numbers: Sequence[int], place: int) -> _World:
            """The databases in turn, one domain after another; made when first needed."""
            domains = DOMAINS[role]
            turn, domain = divmod(place, len(domains))
            number = numbers[turn % len(numbers)]
            db_id = database_id(domains[domain], number)
            if db_id not in worlds:
                coins = number in COINED_INSTANCES
                instance = make_instance(domains[domain], number, seed=seed, coins=coins)
                path = folder / "databases" / db_id / f"{db_id}.sqlite"
                path.parent.mkdir(parents=True)
                write_sqlite(instance, path)
                connection = connections.enter_context(closing(sqlite3.connect(path)))
                schema = reflect_sqlite(db_id, path)
                worlds[db_id] = _World(
                    instance=instance, path=path, schema=schema, connection=connection
                )
            return worlds[db_id]

        asked: set[tuple[str, ...]] = set()
        splits: dict[str, list[Dialogue]] = {}
        for split, num_dialogues, role, numbers in plan:
            splits[split] = [
                _new_dialogue(world(role, numbers, i), asked, seed=seed, split=split, number=i)
                for i in range(num_dialogues)
            ]
        write_dataset(
            folder,
            name="embedded",
            seed=seed,
            splits={split: splits[split] for split in SPLITS},
            databases={db_id: worlds[db_id].path for db_id in sorted(worlds)},
            schemas=[worlds[db_id].schema for db_id in sorted(worlds)],
        )


def _mixed(known: Sequence[int], coined: Sequence[int]) -> tuple[int, ...]:
    """A known one, then two coined ones, and so on: any beginning has both in their shares."""
    pairs = zip(coined[::2], coined[1::2], strict=True)
    return tuple(one for first, pair in zip(known, pairs, strict=True) for one in (first, *pair))


def _new_dialogue(
    world: _World, asked: set[tuple[str, ...]], *, seed: int, split: str, number: int
) -> Dialogue:
    """A dialogue whose sequence of questions is not in `asked`, and is from now on."""
    rng = Random(f"{seed}/{split}/{number}")
    while True:
        turns = _turns(world, rng, f"embedded-{split}-{number}")
        questions = tuple(turn.question for turn in turns)
        if turns and questions not in asked:
            asked.add(questions)
            return Dialogue(
                dialogue_id=f"embedded-{split}-{number}",
                db_id=world.instance.db_id,
                turns=turns,
            )


def _turns(world: _World, rng: Random, dialogue_id: str) -> tuple[Turn, ...]:
    """Three or four turns; none if the dialogue has come to a place where nothing can be asked."""
    turns: list[Turn] = []
    known: frozenset[Ref] = frozenset()
    last: Query | None = None
    for index in range(rng.choice((3, 4))):
        candidate = _next(world, last, known, {turn.gold_sql for turn in turns}, rng)
        if candidate is None:
            return ()
        last = candidate.query
        known |= {text.ref for text in last.texts}
        sql = to_sql(last, world.instance.spell, world.instance.layout.key)
        turns.append(
            Turn(
                turn_id=f"{dialogue_id}/{index}",
                question=candidate.question,
                gold_sql=sql,
                hardness=hardness(sql, world.schema),
                tags=candidate.tags,
            )
        )
    return tuple(turns)


def _next(
    world: _World, last: Query | None, known: frozenset[Ref], asked: Set[str], rng: Random
) -> Candidate | None:
    """The next turn, its tags complete; None if many candidates have failed the checks."""
    layout = world.instance.layout
    functions = [function for function, _ in OPERATIONS]
    weights = [weight for _, weight in OPERATIONS]
    wants_absent = rng.random() < ABSENT_SHARE
    scene = Scene(
        layout=layout,
        texts=world.texts,
        numbers=world.numbers,
        known=known,
        wants_absent=wants_absent,
    )
    for _ in range(MAX_TRIES):
        if last is None:
            candidate = start(scene, rng, tables=layout.tables)
        else:
            candidate = rng.choices(functions, weights)[0](scene, last, rng)
        if candidate is None or to_sql(candidate.query, world.instance.spell, layout.key) in asked:
            continue
        is_new_theme = last is None or "theme_change" in candidate.tags
        before = () if is_new_theme or last is None else last.conditions
        new = frozenset(text.ref for text in candidate.query.texts) - known
        if is_sound(world, candidate.query, before, new, is_empty=wants_absent):
            tags = [*candidate.tags, *_shown_by(candidate.query)]
            if wants_absent:
                tags.append("empty_gold")
            elif new:
                tags.append("trap")
            return replace(candidate, tags=tuple(dict.fromkeys(tags)))
    return None


def is_sound(
    world: _World,
    query: Query,
    before: Sequence[Condition],
    new: frozenset[Ref],
    *,
    is_empty: bool,
) -> bool:
    """Whether the database answers the query in a way that teaches something.

    No column is asked for that is fixed anyway. The result is empty exactly when that is wanted.
    Each condition that was not there `before` changes the result. Orders, groups and superlatives
    have several rows to work on and no ties. Writing any of the `new` text columns in the form it
    does not hold gives an empty result.
    """
    fixed = {c.ref for c in query.conditions if isinstance(c, TextIs)}
    if query.aggregate is None and query.group is None and fixed & set(query.select):
        return False  # "the city of shops in Rome" asks for what it says
    rows = world.run(query)
    if bool(suspicion_of_rows(rows)) != is_empty:
        return False
    if is_empty:
        return True
    for condition in query.conditions:
        if condition not in before:
            others = tuple(other for other in query.conditions if other != condition)
            if world.run(replace(query, conditions=others)) == rows:
                return False
    if query.combination and world.run(replace(query, combination=None)) == rows:
        return False
    if not _has_choice(world, query):
        return False
    wrong = [frozenset({ref}) for ref in new] + [new] * (len(new) > 1)
    return all(suspicion_of_rows(world.run(query, misspelt=refs)) for refs in wrong)


def _has_choice(world: _World, query: Query) -> bool:
    """Two rows at least for an order, a group or a function; the superlative group is the only."""
    if query.group is not None:
        sizes = sorted(int(size or 0) for _, size in world.run(replace(query, order=None)))
        if query.order is None or len(sizes) < 2:
            return len(sizes) >= 2
        return sizes[-1] > sizes[-2] if query.order.is_descending else sizes[0] < sizes[1]
    has_function = query.aggregate is not None and query.aggregate.ref is not None
    if query.order is None and not has_function:
        return True
    ids = Query(
        table=query.table,
        select=(Ref(query.table, world.instance.layout.key),),
        conditions=query.conditions,
    )
    return len(world.run(ids)) >= 2


def _shown_by(query: Query) -> Iterator[str]:
    if query.aggregate is not None:
        yield "aggregation"
    if query.group is not None:
        yield "grouping"
    if query.order is not None:
        yield "ordering"
    if query.joined:
        yield "join"
    nested = (AverageIs, HasChild, HasNoChild)
    if query.combination or any(isinstance(condition, nested) for condition in query.conditions):
        yield "nested"
