"""`python -m actors.rollout.check_template MODEL < RECIPE.json`: may this model's template serve?

A process of its own, because it loads transformers, which a command must not. It ends with exit
code 2 and one line on stdout for a model that cannot serve the recipe's dialect.
"""

import sys
from pathlib import Path

from actors.rollout.codec import model_codec
from actors.rollout.wire_tokens import wire_codec
from mtsql.config.run import RunConfig
from mtsql.errors import ModelError


def main() -> int:
    config = RunConfig.model_validate_json(sys.stdin.read())
    try:
        (wire_codec if config.model.wire_tokens else model_codec)(Path(sys.argv[1]), config)
    except ModelError as error:
        sys.stdout.write(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
