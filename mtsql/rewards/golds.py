"""What a gold is worth under a reward: the rules of its comparison, and whether it can be met."""

from mtsql.config.reward import RewardConfig
from mtsql.evaluation.golds import GoldFacts
from mtsql.evaluation.records import Judgement
from mtsql.evaluation.rules import Rules


def rules_of(config: RewardConfig) -> Rules:
    """How proposals are compared with gold while a turn is played.

    `empty_is_wrong` is not among them: the record keeps the fact that both results were empty, so
    `ex_of` applies it to saved trajectories too.
    """
    return Rules(
        keep_value_word=config.keep_value_word,
        keep_literals=config.keep_literals,
        numbers_by_value=config.numbers_by_value,
    )


def ex_of(judgement: Judgement, config: RewardConfig) -> bool | None:
    """EX of a saved judgement as a reward sees it."""
    return False if judgement.is_empty and config.empty_is_wrong else judgement.ex


def why_not_met(facts: GoldFacts, config: RewardConfig) -> str:
    """Why no answer to a turn can earn its outcome reward, as a kind; "" where one can.

    Each kind is a name that logs and summaries count:

        gold_fails    under the limits of the run
        gold_cut      it has more rows than they keep, so only its own text can match it
        gold_empty    `empty_is_wrong`, and gold gives no row
        gold_unread   `unreadable_em: drop`, and EM cannot read gold
        gold_wrong    gold does not match itself, e.g. by the official rule on the word "value"
    """
    if facts.fault:
        return ""  # nothing is known of the gold; a rollout meets a fault as one
    if facts.failure:
        return "gold_fails"
    if facts.is_cut:
        return "gold_cut"
    if facts.is_empty and config.empty_is_wrong:
        return "gold_empty"
    if config.em and facts.em is None and config.unreadable_em == "drop":
        return "gold_unread"
    needs_ex = config.ex > 0 or facts.em is None
    if (needs_ex and not facts.ex) or (config.em and facts.em is False):
        return "gold_wrong"
    return ""
