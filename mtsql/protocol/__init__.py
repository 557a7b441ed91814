"""What an agent can do, and the dialects that put it on the wire.

`actions` has a tool for each action, `mtsql_r1` is the format of MTSQL-R1's checkpoints, `cocte`
builds a chain of views, `short_horizon` is one message that holds SQL only. Model text is parsed
once, into a closed union of records (ToolCall | Answer | ParseFailure).
"""

from mtsql.protocol.actions import ACTIONS, parse_action, render_action
from mtsql.protocol.call_formats import CALL_FORMATS, HERMES, CallFormat
from mtsql.protocol.cocte import COCTE
from mtsql.protocol.dialect import Dialect
from mtsql.protocol.mtsql_r1 import MTSQL_R1
from mtsql.protocol.records import (
    Action,
    ActionName,
    Answer,
    ParseFailure,
    Reading,
    ToolCall,
    Verdict,
    VerifyTarget,
)
from mtsql.protocol.short_horizon import SHORT_HORIZON

__all__ = [
    "ACTIONS",
    "CALL_FORMATS",
    "COCTE",
    "DIALECTS",
    "HERMES",
    "MTSQL_R1",
    "SHORT_HORIZON",
    "Action",
    "ActionName",
    "Answer",
    "CallFormat",
    "Dialect",
    "ParseFailure",
    "Reading",
    "ToolCall",
    "Verdict",
    "VerifyTarget",
    "parse_action",
    "render_action",
]

DIALECTS = {
    "actions": ACTIONS,
    "mtsql_r1": MTSQL_R1,
    "cocte": COCTE,
    "short_horizon": SHORT_HORIZON,
}
