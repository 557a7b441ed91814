"""Chat templates in the shape of model families, written for tests: what each does to messages.

They hold what matters to a codec (roles, tools, the form of a call, the end of a message, the date)
and none of the families' words.
"""

from dataclasses import dataclass
from typing import Any

from helpers.tokenizers import byte_level_bpe

ALTERNATE = """\
{%- for message in messages -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') -}}
{%- endif -%}
{%- endfor -%}
"""
CHATML_ROLES = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
# A list of tools in the system message, then roles; `CALL` and `REPLY` are the family's own.
CHATML_TOOLS = """\
{%- set system = messages[0].content if messages[0].role == 'system' else '' -%}
{%- if tools or system -%}
{{- '<|im_start|>system\\n' + system -}}
{%- if tools -%}{{- '\\nTools:' -}}
{%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{{- '<|im_start|>assistant\\n' + (message.content or '') -}}
{%- for call in message.tool_calls or [] -%}{%- set call = call.function -%}CALL{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- elif message.role == 'tool' -%}REPLY
{%- elif message.role == 'user' -%}
{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}ASK{%- endif -%}
"""
HERMES_CALL = (
    '{{- \'<tool_call>\\n{"name": "\' + call.name + \'", "arguments": \' -}}'
    "{{- (call.arguments | tojson) + '}\\n</tool_call>' -}}"
)
XML_CALL = (
    "{{- '<tool_call>\\n<function=' + call.name + '>\\n' -}}{%- for key in call.arguments -%}"
    "{{- '<parameter=' + key + '>\\n' + call.arguments[key] + '\\n</parameter>\\n' -}}"
    "{%- endfor -%}{{- '</function>\\n</tool_call>' -}}"
)
USER_REPLY = (
    "{{- '<|im_start|>user\\n<tool_response>\\n' + message.content -}}"
    "{{- '\\n</tool_response><|im_end|>\\n' -}}"
)
CLOSED_THOUGHT = "{{- '<think>\\n' + ('' if enable_thinking else '\\n</think>\\n\\n') -}}"


def chatml(call: str, reply: str, ask: str = "") -> str:
    return CHATML_TOOLS.replace("CALL", call).replace("REPLY", reply).replace("ASK", ask)


LLAMA = """\
{%- set tools = tools or [] -%}
{{- '<|begin_of_text|>' -}}
DATE
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + today + '\\n\\n' -}}
{%- if messages[0].role == 'system' -%}
{{- messages[0].content | trim -}}{%- set messages = messages[1:] -%}
{%- endif -%}
{{- '<|eot_id|>' -}}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' -}}
{{- (message.content | tojson) + '<|eot_id|>' -}}
{%- elif message.tool_calls -%}{%- set call = message.tool_calls[0].function -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name -}}
{{- '", "parameters": ' + (call.arguments | tojson) + '}<|eot_id|>' -}}
{%- else -%}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' -}}
{%- if loop.first and tools -%}
{{- 'Respond with {"name": function name, "parameters": its arguments}.\\n' -}}
{%- for tool in tools -%}{{- (tool | tojson(indent=4)) + '\\n\\n' -}}{%- endfor -%}
{%- endif -%}
{{- (message.content | trim) + '<|eot_id|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""
HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
CHATML = ("<|im_start|>", "<|im_end|>")
GEMMA = """\
{{- '<bos>' -}}
{%- if messages[0].role == 'system' -%}SYSTEM{%- endif -%}
ALTERNATE
{%- for message in messages -%}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' -}}
{{- (lead | default('') if loop.first else '') + (message.content | trim) + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
""".replace("ALTERNATE\n", ALTERNATE)
SENTENCE_END = "<\uff5cend\u2581of\u2581sentence\uff5c>"
DEEPSEEK = """\
{{- BOS -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{- message.content -}}
{%- elif message.role == 'user' -%}{{- USER + message.content + ASSISTANT -}}
{%- elif message.role == 'tool' -%}{{- OUTPUT_BEGIN + message.content + OUTPUT_END -}}
{%- else -%}
{%- set said = message.content or '' -%}
{{- said.split('</think>')[-1] -}}
{%- for call in message.tool_calls or [] -%}
{{- BEGIN + 'function' + SEP + call.function.name + '\\n```json\\n' -}}
{{- call.function.arguments + '\\n```' + CLOSE -}}
{%- endfor -%}
{{- SENTENCE_END -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and messages[-1].role == 'user' -%}{{- '<think>\\n' -}}{%- endif -%}
"""
_MARKS = {
    "BOS": "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    "USER": "<\uff5cUser\uff5c>",
    "ASSISTANT": "<\uff5cAssistant\uff5c>",
    "OUTPUT_BEGIN": "<\uff5ctool\u2581output\u2581begin\uff5c>",
    "OUTPUT_END": "<\uff5ctool\u2581output\u2581end\uff5c>",
    "SENTENCE_END": SENTENCE_END,
    "BEGIN": "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>",
    "SEP": "<\uff5ctool\u2581sep\uff5c>",
    "CLOSE": "<\uff5ctool\u2581call\u2581end\uff5c><\uff5ctool\u2581calls\u2581end\uff5c>",
}
for _name in sorted(_MARKS, key=len, reverse=True):
    DEEPSEEK = DEEPSEEK.replace(f" {_name} ", f" '{_MARKS[_name]}' ")
GLM = """\
{{- '[gMASK]<sop>' -}}
{%- if tools -%}{{- '<|system|>\\nTools:' -}}
{%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|observation|>\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
{%- else -%}
{{- '<|' + message.role + '|>\\n' + (message.content or '') -}}
{%- for call in message.tool_calls or [] -%}
{{- '<tool_call>' + call.function.name + '\\n' -}}
{%- for key in call.function.arguments -%}
{{- '<arg_key>' + key + '</arg_key>\\n<arg_value>' + call.function.arguments[key] -}}
{{- '</arg_value>\\n' -}}
{%- endfor -%}
{{- '</tool_call>' -}}
{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}
"""
PHI = """\
{%- for message in messages -%}
{%- if message.role in ROLES -%}
{{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' -}}
{%- elif message.role == 'tool' -%}
{{- '<|tool_response|>' + (message.content | tojson) + '<|end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}
{%- else -%}{{- '<|endoftext|>' -}}{%- endif -%}
"""
PHI4 = """\
{{- '<|system|>' + (messages[0].content if messages[0].role == 'system' else '') -}}
{%- for tool in tools or [] -%}{{- '<|tool|>' + (tool.function | tojson) + '<|/tool|>' -}}
{%- endfor -%}
{{- '<|end|>' -}}
{%- for message in messages if message.role != 'system' -%}
{%- if message.role == 'tool' -%}
{{- '<|tool_response|>' + (message.content | tojson) + '<|end|>' -}}
{%- else -%}
{{- '<|' + message.role + '|>' + (message.content or '') -}}
{%- for call in message.tool_calls or [] -%}
{{- '<|tool_call|>[' + (call.function | tojson) + ']<|/tool_call|>' -}}
{%- endfor -%}
{{- '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
MISTRAL = """\
{{- '<s>' -}}
{%- set system = messages[0].content if messages[0].role == 'system' else '' -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{%- if tools and loop.last -%}
{{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' -}}
{%- endif -%}
{{- '[INST]' + (system + '\\n\\n' if system and loop.last else '') + message.content + '[/INST]' -}}
{%- elif message.role == 'tool' -%}
{%- if message.tool_call_id is not defined -%}{{- raise_exception('no call id') -}}{%- endif -%}
{{- '[TOOL_RESULTS]{"content": ' + message.content + ', "call_id": "' -}}
{{- message.tool_call_id + '"}[/TOOL_RESULTS]' -}}
{%- elif message.tool_calls -%}{%- set call = message.tool_calls[0] -%}
{{- '[TOOL_CALLS][{"name": "' + call.function.name + '", "arguments": ' -}}
{{- (call.function.arguments | tojson) + ', "id": "' + call.id + '"}]</s>' -}}
{%- elif message.role == 'assistant' -%}{{- message.content + '</s>' -}}
{%- endif -%}
{%- endfor -%}
"""
NEMOTRON = """\
{{- '<SPECIAL_10>System\\n' + (messages[0].content if messages[0].role == 'system' else '') -}}
{%- if tools -%}
{{- '\\n<AVAILABLE_TOOLS>' + (tools | tojson) + '</AVAILABLE_TOOLS>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- for message in messages if message.role != 'system' -%}
{%- if message.role == 'tool' -%}
{{- '<SPECIAL_11>User\\n<TOOL_RESPONSE>[' + message.content + ']</TOOL_RESPONSE>\\n' -}}
{%- elif message.role == 'user' -%}{{- '<SPECIAL_11>User\\n' + message.content + '\\n' -}}
{%- else -%}
{{- '<SPECIAL_11>Assistant\\n' + (message.content or '') -}}
{%- for call in message.tool_calls or [] -%}
{{- '<TOOLCALL>[{"name": "' + call.function.name + '", "arguments": ' -}}
{{- (call.function.arguments | tojson) + '}]</TOOLCALL>' -}}
{%- endfor -%}
{{- '\\n<SPECIAL_12>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<SPECIAL_11>Assistant\\n<think>\\n' -}}{%- endif -%}
"""
GEMMA4 = """\
{{- '<bos><|turn>system\\n' + (messages[0].content if messages[0].role == 'system' else '') -}}
{%- for tool in tools or [] -%}
{{- '<|tool>declaration:' + tool.function.name + (tool.function.parameters | tojson) -}}
{{- '<tool|>' -}}
{%- endfor -%}
{{- '<turn|>\\n' -}}
{%- for message in messages if message.role in ('user', 'assistant') -%}
{{- '<|turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' -}}
{{- message.content or '' -}}
{%- for call in message.tool_calls or [] -%}
{{- '<|tool_call>call:' + call.function.name + '{' -}}
{%- for key in call.function.arguments -%}
{{- key + ':<|"|>' + call.function.arguments[key] + '<|"|>' -}}
{%- endfor -%}
{{- '}<tool_call|>' -}}
{%- endfor -%}
{{- '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|turn>model\\n' -}}{%- endif -%}
"""
LFM_CALL = (
    "{{- '<|tool_call_start|>[' + call.name + '(' -}}{%- for key in call.arguments -%}"
    "{{- key + '=\"' + call.arguments[key] + '\"' -}}{%- endfor -%}"
    "{{- ')]<|tool_call_end|>' -}}"
)
LFM_REPLY = "{{- '<|im_start|>tool\\n' + message.content + '<|im_end|>\\n' -}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A template with its tokens, and what is true of it with the tools of `actions`."""

    template: str
    special: tuple[str, ...]
    end: str
    """What closes a message before a reply."""
    call_format: str
    shows_tools: bool = True
    keeps_system: bool = True
    reply: str = "tool"
    eos: str = ""
    """The tokenizer's end of text; empty: `end`."""
    has_date: bool = False
    is_rendered_whole: bool = True
    """The template renders a played conversation as it was played."""


FAMILIES = {
    "qwen2.5": Family(
        template=chatml(HERMES_CALL, USER_REPLY),
        special=CHATML,
        end="<|im_end|>",
        call_format="hermes",
    ),
    "qwen3.5": Family(
        template=chatml(XML_CALL, USER_REPLY, CLOSED_THOUGHT),
        special=CHATML,
        end="<|im_end|>",
        call_format="qwen_xml",
        # It opens a thought before each message, and renders none.
        is_rendered_whole=False,
    ),
    "smollm2": Family(
        template=CHATML_ROLES,
        special=CHATML,
        end="<|im_end|>",
        call_format="hermes",
        shows_tools=False,
    ),
    "smollm3": Family(
        template="{{- '<|im_start|>system\\nToday Date: ' + strftime_now('%d %B %Y') -}}"
        "{{- '<|im_end|>\\n' -}}" + CHATML_ROLES,
        special=CHATML,
        end="<|im_end|>",
        call_format="hermes",
        shows_tools=False,
        has_date=True,
    ),
    "llama3.1": Family(
        template=LLAMA.replace("DATE", "{%- set today = date_string or '26 Jul 2024' -%}"),
        special=HEADERS,
        end="<|eot_id|>",
        call_format="llama",
        reply="user",
    ),
    "llama3.2": Family(
        template=LLAMA.replace("DATE", "{%- set today = strftime_now('%d %b %Y') -%}"),
        special=HEADERS,
        end="<|eot_id|>",
        call_format="llama",
        reply="user",
        has_date=True,
    ),
    "gemma1": Family(
        template=GEMMA.replace("SYSTEM", "{{- raise_exception('System role not supported') -}}"),
        special=("<bos>", "<start_of_turn>", "<end_of_turn>"),
        end="<end_of_turn>",
        call_format="hermes",
        shows_tools=False,
        keeps_system=False,
        reply="user",
        eos="<eos>",
    ),
    "gemma3": Family(
        template=GEMMA.replace(
            "SYSTEM",
            "{%- set lead = messages[0].content + '\\n\\n' -%}{%- set messages = messages[1:] -%}",
        ),
        special=("<bos>", "<start_of_turn>", "<end_of_turn>"),
        end="<end_of_turn>",
        call_format="hermes",
        shows_tools=False,
        reply="user",
        eos="<eos>",
    ),
    "gemma4": Family(
        template=GEMMA4,
        special=("<bos>", "<|turn>", "<turn|>", "<|tool_call>", "<tool_call|>", '<|"|>'),
        end="<turn|>",
        call_format="gemma",
        reply="user",
    ),
    "phi3": Family(
        template=PHI.replace("ROLES", "('system', 'user', 'assistant')").replace(
            "{%- elif message.role == 'tool' -%}", "{%- elif message.role == 'nobody' -%}"
        ),
        special=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        end="<|end|>",
        call_format="hermes",
        shows_tools=False,
        reply="user",
        eos="<|endoftext|>",
    ),
    "phi4": Family(
        template=PHI4,
        special=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool_call|>"),
        end="<|end|>",
        call_format="phi",
        reply="user",
        eos="<|endoftext|>",
    ),
    "glm4": Family(
        template=GLM,
        special=("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        end="<|observation|>",
        call_format="glm",
        eos="<|endoftext|>",
    ),
    "deepseek_r1": Family(
        template=DEEPSEEK,
        special=(
            *(mark for mark in _MARKS.values() if mark.count("<") == 1),
            "<\uff5ctool\u2581calls\u2581begin\uff5c>",
            "<\uff5ctool\u2581call\u2581begin\uff5c>",
        ),
        end=SENTENCE_END,
        call_format="deepseek",
        shows_tools=False,
        # It opens a thought before the first message, and renders none.
        is_rendered_whole=False,
    ),
    "mistral": Family(
        template=MISTRAL,
        special=("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]"),
        end="</s>",
        call_format="mistral",
        # It tells the tools before the last message, if that is a user's, and nowhere else.
        is_rendered_whole=False,
    ),
    "nemotron": Family(
        template=NEMOTRON,
        special=("<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>"),
        end="<SPECIAL_12>",
        call_format="nemotron",
        # It opens a thought before each message, and breaks the line before its end.
        is_rendered_whole=False,
    ),
    "lfm2": Family(
        template=chatml(LFM_CALL, LFM_REPLY),
        special=(*CHATML, "<|tool_call_start|>", "<|tool_call_end|>"),
        end="<|im_end|>",
        call_format="lfm",
    ),
    "lfm2_without_calls": Family(
        template=chatml("", LFM_REPLY),
        special=(*CHATML, "<|tool_call_start|>", "<|tool_call_end|>"),
        end="<|im_end|>",
        call_format="lfm",
    ),
}


def family_tokenizer(name: str) -> Any:
    family = FAMILIES[name]
    return tokenizer_with(family.template, family.special, family.eos or family.end)


def tokenizer_with(template: str, special: tuple[str, ...], eos: str) -> Any:
    """Byte-level BPE that keeps the special tokens whole."""
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - not in the core install

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(special=tuple(dict.fromkeys(["<|endoftext|>", *special]))),
        eos_token=eos,
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = template
    return tokenizer
