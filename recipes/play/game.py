"""`mtsql play`: a person in the policy's place, with its observations and its rewards."""

import asyncio
import difflib
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from envs.play import OutOfTokens
from envs.users.dialogue import DialogueSpec, ScriptedUser, Seen, User, play_turns, question
from envs.users.goals import GoalUser, goal_turns
from mtsql.config.environment import HistoryMode
from mtsql.config.load import load_config
from mtsql.config.run import RunConfig
from mtsql.data.dataset import Dataset, load_dataset
from mtsql.data.embedded import generate
from mtsql.data.reflect import reflect
from mtsql.dialogue import Dialogue, Message, PastTurn, Turn, TurnSpec
from mtsql.errors import ConfigError, DataError
from mtsql.protocol import DIALECTS, Dialect
from mtsql.rewards.golds import rules_of
from mtsql.sql.pool import LocalPool
from mtsql.sql.records import QueryLimits, QueryRequest, QueryStatus
from recipes.play.commands import HELP, BadCommand, Command, Speech, read_actions, read_command
from recipes.play.screen import Screen
from recipes.sql.answers import databases_of, warn

DEFAULT_RECIPE = Path(__file__).parents[1] / "demo_cpu.yaml"
NUM_TEST, NUM_TEST_UNSEEN_DB, NUM_TEST_OOD = 14, 6, 4
"""Dialogues of the embedded data made for a game; with the demo's seed they are its first ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says; None where it says nothing."""

    data: Path | None
    dialogue: str | None
    turn: int
    """The first turn to play, from 1."""
    seed: int | None
    db: str | None
    questions: Sequence[str]
    goal: str | None
    history: HistoryMode | None
    actions: Path | None
    recipe: Path | None
    overrides: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A dialogue to be played: where, with whom, and what is said about it."""

    dialogue: DialogueSpec
    address: str | Path
    user: User
    num_turns: int | None
    """Of the whole dialogue; None: it ends when its user has no more questions."""
    title: str
    goal: str | None = None
    """SQL that must run on the database."""


class Stop(Exception):
    """The person leaves, or the file of actions has no turn left."""


class Source(Protocol):
    """Where the commands of a turn come from."""

    def command(self, num_left: int) -> Command:
        """The next one. Raises Stop."""
        ...


class Keyboard:
    """Lines from standard input, with the history of readline in a terminal."""

    def __init__(self, screen: Screen, dialect: Dialect) -> None:
        self._screen = screen
        self._dialect = dialect
        self._speech = Speech(dialect)
        self._is_terminal = sys.stdin.isatty()
        if self._is_terminal:
            with suppress(ImportError):
                import readline  # noqa: F401 - to import it is to turn it on

    def begin(self) -> None:
        """A new turn: what was noted for a message and not sent is gone."""
        self._speech = Speech(self._dialect)

    def command(self, num_left: int) -> Command:
        while True:
            line = self.line(f"[{num_left} left] > ")
            if line is None:
                raise Stop
            if not line.strip():
                continue
            try:
                command = read_command(line, lambda: self.line("... "), self._speech)
            except BadCommand as error:
                self._screen.say(f"{error} (nothing was sent)", "yellow")
                continue
            if command.message is None and command.shown is None:
                self._screen.say("noted; it is sent with the next message", "dim")
                continue
            return command

    def line(self, prompt: str) -> str | None:
        """A line without its end; None at the end of the input."""
        with _interrupted_at_once():
            if self._is_terminal:
                try:
                    return input(prompt)
                except EOFError:
                    print()  # what Ctrl-D leaves is an unfinished line
                    return None
            try:
                text = sys.stdin.readline()
            except UnicodeDecodeError as error:
                raise DataError("standard input: not UTF-8") from error
        if text:
            self._screen.say(f"{prompt}{text.rstrip()}")
        return text.rstrip("\n") if text else None


@contextmanager
def _interrupted_at_once() -> Generator[None]:
    """asyncio's own handler waits for the loop, which waits for the line."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Listed:
    """One turn's commands from a file."""

    def __init__(self, screen: Screen, commands: Sequence[Command]) -> None:
        self._screen = screen
        self._left = list(commands)

    def command(self, num_left: int) -> Command:
        while self._left:
            command = self._left.pop(0)
            self._screen.say(f"[{num_left} left] > {command.text}")
            if command.message is not None or command.shown is not None:
                return command
        # The answer was refused, or there was none.
        self._screen.say("The file has no more actions for this turn: as if no tokens were left.")
        raise OutOfTokens

    @property
    def num_unused(self) -> int:
        return sum(not command.is_added for command in self._left)


class Person:
    """The policy of one turn. Fits `Generate`."""

    def __init__(
        self, screen: Screen, source: Source, dialect: Dialect, spec: TurnSpec, num_steps: int
    ) -> None:
        self._screen = screen
        self._source = source
        self._dialect = dialect
        self._spec = spec
        self._num_left = num_steps

    async def __call__(self, messages: Sequence[Message]) -> str:
        if messages[-1]["role"] == "tool":
            self._screen.observation(messages[-1]["content"])
        while True:
            command = self._source.command(self._num_left)
            if command.message is not None:
                self._num_left -= 1
                return command.message
            match command.shown:
                case "prompt":
                    self._screen.prompt(messages, self._dialect)
                case "schema":
                    self._screen.schema(self._spec.schema)
                case "quit":
                    raise Stop
                case _:
                    self._screen.say(HELP)


class AskingPerson:
    """The same person asks the questions, too."""

    def __init__(self, keyboard: Keyboard) -> None:
        self._keyboard = keyboard

    async def next_question(self, seen: Sequence[Seen]) -> Turn | None:
        text = self._keyboard.line("\nYour question (empty to stop): ")
        return question(text.strip()) if text and text.strip() else None


def play(options: Options) -> int:
    """Play one dialogue; the exit code is 130 after Ctrl-C.

    Raises:
        ConfigError, DataError: an option names what is not there, or does not go with another.
    """
    # Nothing is learned here: what RL asks of rewards does not matter.
    config = load_config(options.recipe or DEFAULT_RECIPE, [*options.overrides, "rl=null"])
    dialect = DIALECTS[config.environment.dialect]
    screen = Screen(config.reward)
    keyboard = Keyboard(screen, dialect)
    _require_sense(options)
    listed = read_actions(options.actions, dialect) if options.actions else None
    with ExitStack() as stack:
        if options.db is None:
            folder = options.data
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
            scene = _scene_of_data(options, config, folder)
        else:
            scene = _scene_of_database(options, keyboard)
        try:
            asyncio.run(_play(scene, config, screen, keyboard, listed))
        except KeyboardInterrupt:
            screen.say()
            screen.say("Stopped.")
            return 130
    return 0


def _require_sense(options: Options) -> None:
    if options.db is None:
        for name, value in (("--question", options.questions), ("--goal", options.goal)):
            if value:
                raise ConfigError(f"{name} asks about a database of yours: add --db FILE")
        return
    for name, value in (("--data", options.data), ("--dialogue", options.dialogue)):
        if value is not None:
            raise ConfigError(f"{name} and --db exclude each other; choose one")
    if options.turn != 1:
        raise ConfigError("--turn is for the dialogues of a dataset, not for --db")
    if options.questions and options.goal is not None:
        raise ConfigError("--question and --goal exclude each other; choose one")
    if options.history == "gold" and options.goal is None:
        raise ConfigError("--history gold: your questions have no gold SQL; leave it out")
    if options.actions is not None and not options.questions and options.goal is None:
        raise ConfigError("--actions with --db needs its questions: add --question TEXT or --goal")


def _scene_of_data(options: Options, config: RunConfig, folder: Path) -> Scene:
    seed = options.seed if options.seed is not None else time.time_ns() % 100_000
    again = f"; --seed {seed} plays it again" if options.seed is None else ""
    if options.data is None:
        generate(
            folder,
            seed=seed,
            num_train=0,
            num_valid=0,
            num_test=NUM_TEST,
            num_test_unseen_db=NUM_TEST_UNSEEN_DB,
            num_test_ood=NUM_TEST_OOD,
        )
    dataset = load_dataset(folder)
    if options.data is not None and options.dialogue is not None:
        again = ""
    dialogue = _chosen(dataset, options.dialogue, seed)
    num_turns = len(dialogue.turns)
    if not 1 <= options.turn <= num_turns:
        raise DataError(f"--turn {options.turn}: {dialogue.dialogue_id} has turns 1 to {num_turns}")
    history = options.history or "gold"
    before = dialogue.turns[: options.turn - 1]
    return Scene(
        dialogue=DialogueSpec(
            dialogue_id=dialogue.dialogue_id,
            db_id=dialogue.db_id,
            schema=dataset.schemas[dialogue.db_id],
            history=history,
            past=tuple(PastTurn(question=turn.question, sql=turn.gold_sql) for turn in before),
        ),
        address=dataset.databases[dialogue.db_id],
        user=ScriptedUser(dialogue.turns[options.turn - 1 :]),
        num_turns=num_turns,
        title=(
            f"Dialogue {dialogue.dialogue_id} ({num_turns} turns) on database {dialogue.db_id}, "
            f"{history} history{again}."
        ),
    )


def _chosen(dataset: Dataset, dialogue_id: str | None, seed: int) -> Dialogue:
    found = {
        dialogue.dialogue_id: dialogue
        for dialogues in dataset.splits.values()
        for dialogue in dialogues
    }
    if not found:
        raise DataError(f"{dataset.folder}: holds no dialogue to play")
    if dialogue_id is None:
        return found[Random(seed).choice(sorted(found))]
    if dialogue_id not in found:
        near = difflib.get_close_matches(dialogue_id, found, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of them is {min(found)!r}"
        raise DataError(f"--dialogue {dialogue_id}: not among {len(found)} dialogues; {hint}")
    return found[dialogue_id]


def _scene_of_database(options: Options, keyboard: Keyboard) -> Scene:
    databases = databases_of(options.db, None)
    [(db_id, address)] = databases.items()
    schema = reflect(db_id, address)
    warn(databases)
    user: User
    if options.goal is not None:
        parts = goal_turns(options.goal, schema)
        user, asks = GoalUser(parts), "a rule-based user asks"
    elif options.questions:
        user, asks = ScriptedUser([question(text) for text in options.questions]), "no gold SQL"
    else:
        user, asks = AskingPerson(keyboard), "no gold SQL, you ask as well"
    history = options.history or "predicted"
    return Scene(
        dialogue=DialogueSpec(dialogue_id="play", db_id=db_id, schema=schema, history=history),
        address=address,
        user=user,
        num_turns=len(options.questions) or None,
        title=f"Database {db_id}, {history} history; {asks}.",
        goal=options.goal,
    )


async def _require_goal(goal: str, db_id: str, pool: LocalPool, limits: QueryLimits) -> None:
    """Raises DataError if the goal does not run: nothing could be scored."""
    [result] = await pool.execute_many([QueryRequest(db_id=db_id, sql=goal, limits=limits)])
    if result.status is not QueryStatus.OK:
        raise DataError(f"--goal does not run on {db_id} ({result.status}): {result.message}")


async def _play(
    scene: Scene,
    config: RunConfig,
    screen: Screen,
    keyboard: Keyboard,
    listed: list[list[Command]] | None,
) -> None:
    dialect = DIALECTS[config.environment.dialect]
    num_steps = min(config.environment.max_steps, dialect.max_steps or sys.maxsize)
    source: Source = keyboard

    def agent(spec: TurnSpec) -> Person:
        nonlocal source
        if listed is not None:
            if not listed:
                raise Stop
            source = Listed(screen, listed.pop(0))
        else:
            keyboard.begin()
        screen.question(spec.turn.question, spec.turn_index + 1, scene.num_turns)
        return Person(screen, source, dialect, spec, num_steps)

    async with LocalPool({scene.dialogue.db_id: scene.address}, **config.sql.pool()) as pool:
        if scene.goal is not None:
            await _require_goal(scene.goal, scene.dialogue.db_id, pool, config.sql.limits())
        screen.say(scene.title)
        screen.schema(scene.dialogue.schema)
        if listed is None:
            screen.say("help lists the commands.")
        turns = play_turns(
            scene.dialogue,
            scene.user,
            agent,
            pool,
            config.environment,
            config.sql.limits(),
            rules_of(config.reward),
        )
        async with aclosing(turns):
            with suppress(Stop):
                async for played in turns:
                    screen.ended(played)
                    if isinstance(source, Listed) and source.num_unused:
                        screen.say(f"Not used, the turn had ended: {source.num_unused} commands")
    screen.totals()
    if listed:
        screen.say(f"Not used, the dialogue had ended: the actions of {len(listed)} turns")
