"""How `mtsql play` looks: colours in a terminal, the same text without them anywhere else."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from envs.users.dialogue import PlayedTurn
from mtsql.config.reward import RewardConfig
from mtsql.dialogue import Message
from mtsql.evaluation.em.match import why_outside
from mtsql.protocol import Action, Answer, Dialect, ParseFailure
from mtsql.rewards.golds import ex_of
from mtsql.rewards.score import score
from mtsql.schema import Schema
from mtsql.shown.harmless import neutral, visible
from mtsql.shown.schema import full_schema
from mtsql.trajectory.records import Step
from mtsql.trajectory.reward import Reward

VERDICTS = {True: "yes", False: "no", None: "unknown"}


class Screen:
    """Prints to stdout and keeps the dialogue's totals."""

    def __init__(self, reward: RewardConfig) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._reward = reward
        self._totals: list[float] = []
        self._num_right = 0
        self._num_played = 0

    def say(self, text: str = "", style: str = "") -> None:
        self._console.print(Text(visible(text, keep="\n"), style), soft_wrap=True)

    def observation(self, text: str) -> None:
        """Verbatim, as the policy reads it."""
        self.say(text, "cyan")

    def schema(self, schema: Schema) -> None:
        self.say(full_schema(schema), "dim")
        for one in schema.left_out:
            self.say(f"Not shown to the policy: {neutral(one)}", "dim")

    def prompt(self, messages: Sequence[Message], dialect: Dialect) -> None:
        """All that a policy reads before its next message, tools included."""
        for message in messages:
            self.say(f"--- {message['role']}", "bold")
            self.say(message["content"])
        self.say("--- tools", "bold")
        for tool in dialect.tools:
            self.say(json.dumps(tool))

    def question(self, text: str, number: int, num_turns: int | None) -> None:
        of = "" if num_turns is None else f" of {num_turns}"
        self.say()
        self.say(f"Turn {number}{of}: {neutral(text)}", "bold")

    def ended(self, played: PlayedTurn) -> None:
        """How the turn ended, what each step earned, and the gold SQL, shown only now."""
        trajectory, gold = played.trajectory, played.spec.turn.gold_sql
        reward = score(trajectory, self._reward) if gold else None
        self._num_played += 1
        self.say()
        self.say(f"Turn ended: {trajectory.ending}", "bold")
        for number, step in enumerate(trajectory.steps, start=1):
            points = _points(reward.step_rewards[number - 1]) if reward else "-"
            self.say(f"  {number}  {_label(step):<40}{points:>6}")
        if reward is None:
            self.say(f"Reward: unscored, {_why_unscored(played)}", "yellow")
        else:
            self._score(played, reward)
        if gold:
            self.say(f"Gold: {neutral(gold)}", "green")

    def _score(self, played: PlayedTurn, reward: Reward) -> None:
        judgements = played.trajectory.judgements
        last = judgements[-1] if judgements else None
        ex, em = (ex_of(last, self._reward), last.em) if last else (False, False)
        self._totals.append(reward.total)
        self._num_right += ex is True
        parts = f"(outcome {_points(reward.outcome)}; EX {VERDICTS[ex]}, EM {VERDICTS[em]})"
        self.say(f"Reward: {_points(reward.total)} {parts}", "green" if ex else "red")
        if last is not None and last.em is None and self._reward.em:
            self.say(f"{_why_unread(played)}; EX speaks for it", "yellow")

    def totals(self) -> None:
        """One line for the dialogue."""
        num_scored = len(self._totals)
        if num_scored:
            self.say()
            self.say(
                f"Scored turns: {num_scored}, right (EX): {self._num_right}, "
                f"reward in all: {_points(sum(self._totals))}",
                "bold",
            )


def _why_unscored(played: PlayedTurn) -> str:
    trajectory = played.trajectory
    if trajectory.fault is not None:
        return f"the machinery failed: {trajectory.fault.message}"
    if not played.spec.turn.gold_sql:
        return "nobody knows the gold SQL"
    if not trajectory.judgements:
        return "no verdict"
    return trajectory.judgements[-1].message or (
        f"{_why_unread(played)}; reward.unreadable_em=ex scores EX alone"
    )


def _why_unread(played: PlayedTurn) -> str:
    why_not = why_outside(played.spec.turn.gold_sql, played.spec.schema)
    return f"EM cannot read the gold SQL ({why_not})"


def _label(step: Step) -> str:
    label = ", ".join(_word(action) for action in step.actions)
    return label if step.is_accepted else f"{label} (not accepted)"


def _word(action: Action) -> str:
    if isinstance(action, ParseFailure):
        return "unreadable"
    if isinstance(action, Answer):
        return "answer"
    return " ".join(word for word in (action.name, action.target, action.verdict) if word)


def _points(reward: float) -> str:
    return f"{reward:+.4g}" if reward else "0"
