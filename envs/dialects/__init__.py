"""How turns are played in each dialect; a new one is a row here."""

from collections.abc import Mapping

from envs.dialects.actions import ACTIONS, SHORT_HORIZON
from envs.dialects.base import Rules
from envs.dialects.cocte import COCTE
from envs.dialects.mtsql_r1 import MTSQL_R1
from mtsql.config.environment import DialectName

__all__ = ["RULES", "Rules"]

RULES: Mapping[DialectName, Rules] = {
    "actions": ACTIONS,
    "mtsql_r1": MTSQL_R1,
    "cocte": COCTE,
    "short_horizon": SHORT_HORIZON,
}
