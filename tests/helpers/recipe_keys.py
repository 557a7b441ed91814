"""The keys of a recipe as the documents show them, written from the classes that read them.

`make docs` runs this module, which puts the section into recipes/README.md.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from helpers.places import ROOT
from mtsql.config.run import RunConfig

DOCUMENT = ROOT / "recipes" / "README.md"
BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


def rendered() -> str:
    """A table for each section, in the order of the classes."""
    return "\n".join(_tables(RunConfig, ""))


def written(text: str) -> str:
    """The document with its keys written again."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{rendered()}\n{rest[rest.index(END) :]}"


def _tables(section: type[BaseModel], path: str) -> Iterator[str]:
    if path:
        yield f"### {path}\n"
        yield f"{_cell(section.__doc__)}\n"
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    inner: list[tuple[type[BaseModel], str]] = []
    for name, field in section.model_fields.items():
        key = f"{path}.{name}" if path else name
        deeper = _section_of(field)
        if deeper is not None:
            inner.append((deeper, key))
        yield f"| `{key}` | {_default(field, deeper)} | {_cell(field.description)} |"
    yield ""
    for deeper, key in inner:
        yield from _tables(deeper, key)


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    options = [field.annotation, *get_args(field.annotation)]
    found = [one for one in options if isinstance(one, type) and issubclass(one, BaseModel)]
    return found[0] if found else None


def _default(field: FieldInfo, section: type[BaseModel] | None) -> str:
    """As a recipe writes it, with the other choices; a section's own table holds its defaults."""
    if field.is_required():
        return "required"
    if section is not None:
        return "`null`" if field.default is None else "see below"
    choices = [one for one in _choices(field.annotation) if one != field.default]
    word = "of" if isinstance(field.default, tuple) else "or"
    others = f" ({word} {', '.join(f'`{one}`' for one in choices)})" if choices else ""
    return f"`{_yaml(field.default)}`{others}"


def _choices(annotation: Any) -> tuple[str, ...]:
    """Of a key that takes one of several names."""
    for one in (annotation, *get_args(annotation)):
        if get_origin(one) is Literal:
            return get_args(one)
    return ()


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value)


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
