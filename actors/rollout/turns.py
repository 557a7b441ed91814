"""The prepared data of a run, cut to the size that the recipe asks for."""

from dataclasses import replace

from mtsql.config.run import RunConfig
from mtsql.data.dataset import Dataset, load_dataset
from mtsql.data.lower_case import in_lower_case_throughout
from mtsql.dialogue import TurnSpec, turn_specs
from mtsql.runs.folder import RunFolder


def load_run_data(config: RunConfig) -> Dataset:
    """Raises DataError when the folder is missing, malformed or changed since it was prepared."""
    dataset = load_dataset(config.data_folder)
    sizes = {
        "train": config.data.num_train_dialogues,
        "valid": config.data.num_valid_dialogues,
        "test": config.data.num_test_dialogues,
        "test_unseen_db": config.data.num_test_unseen_db_dialogues,
        "test_ood": config.data.num_test_ood_dialogues,
    }
    # None keeps all of a split.
    splits = {name: dialogues[: sizes.get(name)] for name, dialogues in dataset.splits.items()}
    dataset = replace(dataset, splits=splits)
    return in_lower_case_throughout(dataset) if config.data.lower_case else dataset


def training_specs(config: RunConfig, dataset: Dataset) -> list[TurnSpec]:
    """The turns of train that a run learns from, each with its gold history.

    Left out are those that its data stage has found no answer can earn the reward of, and those
    that the recipe excludes.
    """
    note = RunFolder(config.folder).read_golds()
    left_out = note.left_out if note is not None else {}
    return [spec for spec in gold_specs(dataset, "train") if spec.turn.turn_id not in left_out]


def gold_specs(dataset: Dataset, split: str) -> list[TurnSpec]:
    """Every turn of a split with its gold history."""
    return [
        spec
        for dialogue in dataset.split(split)
        for spec in turn_specs(dialogue, dataset.schemas[dialogue.db_id])
    ]
