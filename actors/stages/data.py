"""The data stage: the embedded dataset, or a release made ready."""

import logging

from actors.stages.context import StageContext
from mtsql.data.dataset import load_dataset
from mtsql.data.embedded import generate
from mtsql.data.prepare import prepare

logger = logging.getLogger(__name__)


def data_stage(context: StageContext) -> None:
    """Make the data folder, or look whether the one that is there is whole.

    Raises:
        DataError: it is not, or the release is malformed.
    """
    config, data = context.config, context.config.data
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
            "num_test_ood": data.num_test_ood_dialogues,
        }
        given = {name: size for name, size in sizes.items() if size is not None}
        generate(config.data_folder, seed=data.seed, **given)
    else:
        assert data.source_dir is not None
        source = data.source_dir / data.source
        prepare(data.source, source=source, out=config.data_folder, seed=data.seed)
