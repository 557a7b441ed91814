"""`actions`, which the defaults are made for, and `short_horizon`, one message that is SQL."""

from envs.dialects.base import Rules, lacks_asked_verdict, resolve_named, stray_verdict
from mtsql.protocol import ACTIONS as ACTIONS_WIRE
from mtsql.protocol import SHORT_HORIZON as SHORT_HORIZON_WIRE

ACTIONS = Rules(wire=ACTIONS_WIRE)
SHORT_HORIZON = Rules(
    wire=SHORT_HORIZON_WIRE,
    resolve=resolve_named,
    stray=stray_verdict,
    lacks_verdict=lacks_asked_verdict,
)
