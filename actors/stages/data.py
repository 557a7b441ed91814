"""The data stage: the embedded dataset, or a release made ready; and what its golds are worth."""

import logging

from actors.rollout.turns import gold_specs, load_run_data
from actors.stages.context import StageContext
from mtsql.config.run import RunConfig
from mtsql.data.dataset import Dataset, load_dataset
from mtsql.data.embedded import generate
from mtsql.data.exclusions import read_exclusions
from mtsql.data.golds import check_dataset, count_golds
from mtsql.data.prepare import prepare
from mtsql.errors import DataError
from mtsql.files import write_record
from mtsql.rewards.golds import rules_of, why_not_met
from mtsql.runs.records import GoldNote
from mtsql.runs.summary import gold_summary

logger = logging.getLogger(__name__)


def data_stage(context: StageContext) -> None:
    """Make the data folder, or look whether the one that is there is whole; then run its golds.

    Raises:
        DataError: it is not, the release is malformed, or no turn is left to learn from.
    """
    _make(context.config)
    config = context.config
    note = gold_note(config, load_run_data(config))
    write_record(context.run.golds, note)
    summary = gold_summary(note)
    logger.info("golds of train looked at", extra=summary.model_dump())


def _make(config: RunConfig) -> None:
    data = config.data
    if config.data_folder.exists():
        load_dataset(config.data_folder)
        logger.info("data kept", extra={"folder": config.data_folder})
        return
    logger.info("data are made", extra={"folder": config.data_folder, "source": data.source})
    if data.source == "embedded":
        sizes = {
            "num_train": data.num_train_dialogues,
            "num_valid": data.num_valid_dialogues,
            "num_test": data.num_test_dialogues,
            "num_test_unseen_db": data.num_test_unseen_db_dialogues,
            "num_test_ood": data.num_test_ood_dialogues,
        }
        given = {name: size for name, size in sizes.items() if size is not None}
        generate(config.data_folder, seed=data.seed, **given)
    else:
        assert data.source_dir is not None
        source, limits = data.source_dir / data.source, config.sql.limits()
        prepare(data.source, source=source, out=config.data_folder, seed=data.seed, limits=limits)


def gold_note(config: RunConfig, dataset: Dataset) -> GoldNote:
    """What the golds of train are worth under the run's own reward and limits.

    Raises:
        DataError: no turn is left to learn from, or the file of exclusions is wrong.
    """
    specs = gold_specs(dataset, "train")
    facts = check_dataset(dataset, config.sql, rules=rules_of(config.reward), splits=("train",))
    excluded: frozenset[str] = frozenset()
    if config.data.exclude is not None:
        # Against the whole folder: a run may use the first dialogues only.
        excluded = read_exclusions(config.data.exclude, load_dataset(config.data_folder))
    reasons = {
        spec.turn.turn_id: "excluded"
        if spec.turn.turn_id in excluded
        else why_not_met(facts[spec.db_id, spec.turn.gold_sql], config.reward)
        for spec in specs
    }
    left_out = {turn_id: reason for turn_id, reason in reasons.items() if reason}
    note = GoldNote(
        num_turns=len(specs),
        counts=count_golds(((spec.db_id, spec.turn) for spec in specs), facts),
        left_out=left_out,
    )
    if specs and len(left_out) == len(specs):
        kinds = ", ".join(f"{kind} {number}" for kind, number in note.num_left_out.items())
        raise DataError(
            f"{config.data_folder}: no turn of train is left to learn from ({kinds}); see the keys "
            "of reward and sql, and data.exclude"
        )
    return note
