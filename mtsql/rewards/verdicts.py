"""Process rewards: what each step of a finished trajectory earns on the way to its answer.

Three abilities (MTSQL-R1, arXiv 2510.12831), each a pure function with one number for every step,
or None where a step is not judged:

    execution verdict  pass or fail against what gold says of the executed result; of a view,
                       whether gold's result can still be computed from it
    memory verdict     pass or fail against the measured coherence of the proposal
    generation         clause F1 of a proposal minus that of the proposal before it

What holds for verdicts: a call without one is never a "pass". A verdict is about the last
observation of its kind, on the proposal that is current; without one it counts for nothing. Only
the first verdict on a proposal counts, and a proposal that repeats the text of an earlier one
(comments, spaces and the case of names aside) is not a new proposal. Everything is judged by typed
facts; no text of a message, a question, a cell or an observation is read.

Example: the first proposal drops a condition (F1 0.8, EX 0), the second is gold
    step        propose  execute  fail   correct  execute  pass   answer
    execution   -        -        1.0    -        -        1.0    -
    generation  0.8      -        -      0.2      -        -      -
"""

from collections.abc import Iterator

from mtsql.chains.chain import Chain
from mtsql.chains.truth import Truth
from mtsql.config.reward import RewardConfig
from mtsql.protocol import ActionName, ToolCall, Verdict, VerifyTarget
from mtsql.query.same import first_uses
from mtsql.rewards.golds import ex_of
from mtsql.sql.records import ResultClass
from mtsql.trajectory.records import Trajectory, calls_of

Values = tuple[float | None, ...]
"""One for each step."""


def verdict_rewards(trajectory: Trajectory, config: RewardConfig) -> Values:
    """What execution verdicts earn: `config.verify` times `execution_values`, given out by
    `config.verdicts`.

    With `each`, once a right result was passed no later verdict earns anything: the turn is solved.
    With `mean` the weight is divided by the number of verdicts that count.
    """
    values = execution_values(trajectory, config)
    return _give_out(trajectory, values, config.verify, "execution", config)


def memory_rewards(trajectory: Trajectory, config: RewardConfig) -> Values:
    """What memory verdicts earn: `config.coherence` times `memory_values`, given out the same."""
    values = memory_values(trajectory, config)
    return _give_out(trajectory, values, config.coherence, "memory", config)


def execution_values(trajectory: Trajectory, config: RewardConfig) -> Values:
    """1 for a right execution verdict, -1 for a wrong one.

    With the table `gold`, from what the execution showed and whether the proposal matches gold:

        result                        gold     pass   fail
        ok, cut                       matches  1      -1
        empty, all NULL, zero         matches  1      none: doubting it is not a mistake
        any of these                  differs  -1     1
        error, refused, timeout, ...  any      -1     1
        any                           unknown  none   none

    Of a view in a chain, "matches" is *sufficient*, "differs" *insufficient*, and "unknown" is
    *unknown* (`mtsql.chains.truth`), but for one that fails: nothing follows from that. To pass a
    view pays where it stands in the answer: who replaces it did not believe it.

    A wrong verdict costs as much as a right one earns, so that a guess gains nothing. With the
    table `reference`: an error or a refusal 0 / 1, empty 0 / 0.1, anything else 1 / 0.
    """
    executed: dict[int, ResultClass] = {}
    judged: set[int] = set()
    firsts = first_uses(trajectory.statements)
    values: list[float | None] = [None] * len(trajectory.steps)
    for number, call, current in _calls(trajectory):
        step = trajectory.steps[number]
        if call.name is ActionName.EXECUTE and step.result_class is not None:
            executed[current] = step.result_class
        verdict = _verdict(call, "execution")
        if verdict is None or current not in executed or firsts[current] in judged:
            continue
        judged.add(firsts[current])
        if isinstance(trajectory.proposals[current], Chain):
            truth = _truth_of_view(trajectory, current, executed[current])
        else:
            truth = ex_of(trajectory.judgements[current], config)
        if config.verdict_table == "reference":
            values[number] = _reference_value(verdict, executed[current])
        elif truth is not None:
            value = _gold_value(verdict, truth, executed[current])
            is_believed = verdict == "fail" or trajectory.stands(current)
            values[number] = value if is_believed or value != 1.0 else None
    return tuple(values)


def memory_values(trajectory: Trajectory, config: RewardConfig) -> Values:
    """1 for a right memory verdict, -1 for a wrong one.

    A proposal is coherent if its measured coherence (`ClauseMatch.coherence`) reaches
    `config.coherent_from`, and incoherent if it does not and its result is wrong too. Between the
    two, right but written differently from gold, nothing is judged. Nor is anything where memory
    had no comparison to show: on a first turn, or with SQL that cannot be read.
    """
    shown: set[int] = set()
    judged: set[int] = set()
    firsts = first_uses(trajectory.statements)
    values: list[float | None] = [None] * len(trajectory.steps)
    for number, call, current in _calls(trajectory):
        step = trajectory.steps[number]
        if call is step.action and step.num_kept is not None:
            # This call shows memory; a verdict inside it was given before anything was seen.
            shown.add(current)
            continue
        verdict = _verdict(call, "memory")
        if verdict is None or current not in shown or firsts[current] in judged:
            continue
        judged.add(firsts[current])
        is_coherent = _is_coherent(trajectory, current, config)
        if is_coherent is not None:
            values[number] = 1.0 if (verdict == "pass") == is_coherent else -1.0
    return tuple(values)


_PROPOSALS = (ActionName.PROPOSE, ActionName.CORRECT)


def _calls(trajectory: Trajectory) -> Iterator[tuple[int, ToolCall, int]]:
    """(number of the step, call, proposal that it is about), for proposals that are judged.

    In a message of several calls a verdict before a proposal is about the one before it.
    """
    before: int | None = None
    for number, step in enumerate(trajectory.steps):
        calls = calls_of(step)
        current = before if any(call.name in _PROPOSALS for call in calls) else step.proposal
        for call in calls:
            current = step.proposal if call.name in _PROPOSALS else current
            if current is not None and current < len(trajectory.judgements):
                yield number, call, current
        before = step.proposal


def _verdict(call: ToolCall, target: VerifyTarget) -> Verdict | None:
    is_about = call.name is ActionName.VERIFY and call.target == target
    return call.verdict if is_about else None


def _truth_of_view(trajectory: Trajectory, proposal: int, shown: ResultClass) -> bool | None:
    """Whether gold's result can be computed from it; None: unknown."""
    if not shown.has_run:
        return False
    truth = trajectory.truths[proposal] if trajectory.truths else None
    return {Truth.SUFFICIENT: True, Truth.INSUFFICIENT: False}.get(truth or Truth.UNKNOWN)


def _gold_value(verdict: Verdict, truth: bool, shown: ResultClass) -> float | None:
    if (verdict == "pass") == (truth and shown.has_run):
        return 1.0
    return None if truth and shown.is_suspicious else -1.0


def _reference_value(verdict: Verdict, shown: ResultClass) -> float:
    if not shown.has_run:
        return float(verdict == "fail")
    if shown is ResultClass.EMPTY:
        return 0.1 if verdict == "fail" else 0.0
    return float(verdict == "pass")


def _is_coherent(trajectory: Trajectory, proposal: int, config: RewardConfig) -> bool | None:
    if len(trajectory.matches) != len(trajectory.proposals):
        return None
    coherence = trajectory.matches[proposal].coherence
    if coherence is None:
        return None
    if coherence >= config.coherent_from:
        return True
    return False if ex_of(trajectory.judgements[proposal], config) is False else None


def _give_out(
    trajectory: Trajectory,
    values: Values,
    weight: float,
    target: VerifyTarget,
    config: RewardConfig,
) -> Values:
    if config.verdicts == "mean":
        num_given = sum(value is not None for value in values)
        return tuple(None if value is None else weight * value / num_given for value in values)
    rewards: list[float | None] = []
    is_solved = False
    for step, value in zip(trajectory.steps, values, strict=True):
        is_paid = value is not None and not (is_solved and value > 0)
        rewards.append(weight * value if value is not None and is_paid else None)
        is_pass = any(_verdict(call, target) == "pass" for call in calls_of(step))
        is_solved = is_solved or (value is not None and value > 0 and is_pass)
    return tuple(rewards)
