"""A shop, a dialogue about it, and tokenizers trained in the blink of an eye; shared by tests."""

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

from mtsql.dialogue import Dialogue, Turn, turn_specs
from mtsql.protocol import ActionName, Answer, ToolCall, Verdict, render_action
from mtsql.schema import Column, Schema, Table

ALL = "SELECT name FROM shop"
IN_PARIS = "SELECT name FROM shop WHERE city = 'Paris'"
SCHEMA = Schema(
    db_id="shops",
    tables=(
        Table(
            name="shop",
            columns=(
                Column(name="id", type="number", is_primary=True),
                Column(name="name", type="text"),
                Column(name="city", type="text"),
            ),
        ),
    ),
    foreign_keys=(),
)
DIALOGUE = Dialogue(
    dialogue_id="hand-0",
    db_id="shops",
    turns=(
        Turn(
            turn_id="hand-0/0",
            question="show the names of all shops in Paris",
            gold_sql=IN_PARIS,
            hardness="easy",
        ),
        Turn(
            turn_id="hand-0/1",
            question="how many are there ?",
            gold_sql="SELECT count(*) FROM shop WHERE city = 'Paris'",
            hardness="easy",
        ),
    ),
)
FIRST, SECOND = turn_specs(DIALOGUE, SCHEMA)

EXECUTE = render_action(ToolCall(name=ActionName.EXECUTE))
ANSWER = render_action(Answer())


def propose(sql: str) -> str:
    return render_action(ToolCall(name=ActionName.PROPOSE, sql=sql))


def correct(sql: str) -> str:
    return render_action(ToolCall(name=ActionName.CORRECT, sql=sql))


def judge(verdict: Verdict) -> str:
    return render_action(ToolCall(name=ActionName.VERIFY, target="execution", verdict=verdict))


def write_shops(path: Path) -> Path:
    """Ada and Bob in Paris, Cy in Rome."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT, city TEXT);"
            "INSERT INTO shop VALUES (1, 'Ada', 'Paris'), (2, 'Bob', 'Paris'), (3, 'Cy', 'Rome');"
        )
    connection.close()
    return path


def facts(path: Path) -> tuple[str, list[str]]:
    """Hash of the file and names of all files beside it."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return digest, sorted(entry.name for entry in path.parent.iterdir())


TEXTS = [
    "shop : id , name , city",
    *(turn.question for turn in DIALOGUE.turns),
    *(turn.gold_sql for turn in DIALOGUE.turns),
    '{"ok": true}',
    '{"columns": ["name"], "rows": [["Ada"], ["Bob"]], "num_rows": 2}',
] * 2

# The parts of Qwen3's layout that matter to a codec: a section of tools in the system message, tool
# replies as a user's message, a reasoning block that is kept after the last question only, put
# before the last assistant message even when it is empty, and opened and closed by the template
# itself when thinking is off.
QWEN_TEMPLATE = """\
{%- set first = messages[0].content if messages[0].role == 'system' else '' -%}
{%- if tools -%}
{{- '<|im_start|>system\\n' + (first + '\\n\\n' if first else '') + '# Tools\\n\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
{{- '\\n</tools><|im_end|>\\n' -}}
{%- elif first -%}
{{- '<|im_start|>system\\n' + first + '<|im_end|>\\n' -}}
{%- endif -%}
{%- set seen = namespace(question=0) -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{%- set seen.question = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' -}}
{%- elif message.role == 'assistant' -%}
{%- set thought, said = '', message.content -%}
{%- if '</think>' in said -%}
{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\\n') -%}
{%- set said = said.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if loop.index0 > seen.question and (loop.last or thought) -%}
{{- '<think>\\n' + thought + '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- said + '<|im_end|>\\n' -}}
{%- elif message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}
{{- '<|im_start|>user' -}}
{%- endif -%}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and not enable_thinking -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}"""


def tiny_tokenizer() -> Any:
    from actors.tiny_model import train_tokenizer

    return train_tokenizer(TEXTS, 500)


def qwen_tokenizer() -> Any:
    """Byte-level BPE with Qwen3's own tokens and a template in its layout."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS, trainer)
    tags = ("think", "tool_call", "tool_response")
    inner.add_tokens(
        [
            AddedToken(text, normalized=False, special=False)
            for tag in tags
            for text in (f"<{tag}>", f"</{tag}>")
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = QWEN_TEMPLATE
    return tokenizer
