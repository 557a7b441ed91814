"""What the documents name exists: commands, keys, targets, files and headings."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.documents import commands, documents, examples, spans
from helpers.places import ROOT
from helpers.recipe_keys import DOCUMENT, rendered
from mtsql.config.load import load_config
from recipes.main import parse

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in documents()}
EXAMPLES = [
    pytest.param(words, id=f"{name}: {' '.join(words)}")
    for name, text in TEXTS.items()
    for words in examples(text)
]
LINK = re.compile(r"(?<!!)\[[^]]+\]\(([^)\s]+)\)")
PLACE = re.compile(r"(?:mtsql|envs|actors|recipes|tests|docker)/[\w./-]*")


def names(words: Sequence[str]) -> list[str]:
    """The command that these words call, such as ["bench", "sql"]; empty for none."""
    for command in commands():
        if list(words[: len(command)]) == command:
            return command
    return []


def headings(text: str) -> set[str]:
    """As GitHub makes anchors of them."""
    found = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in found}


def test_the_keys_are_those_of_the_code() -> None:
    assert rendered() in DOCUMENT.read_text("utf-8"), (
        "run `make docs` (or PYTHONPATH=.:tests python -m helpers.recipe_keys)"
    )


def test_every_key_has_a_meaning() -> None:
    assert [line for line in rendered().splitlines() if line.endswith("|  |")] == []


def test_every_command_is_explained() -> None:
    explained = [names(words) for words in examples(TEXTS["recipes/README.md"])]
    assert [command for command in commands() if command not in explained] == []


@pytest.mark.parametrize("words", EXAMPLES)
def test_an_example_is_a_command_that_the_parser_takes(words: list[str]) -> None:
    parsed = parse(words)
    recipe = getattr(parsed, "recipe", None)
    if recipe is not None and recipe.suffix == ".yaml":
        load_config(ROOT / recipe, parsed.overrides)


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_document_names_exists(name: str) -> None:
    first_words = {command[0] for command in commands()} | {"NAME"}
    makefile = (ROOT / "Makefile").read_text("utf-8")

    def exists(span: str) -> bool:
        if command := re.match(r"mtsql (\w+)", span):
            return command[1] in first_words
        if target := re.fullmatch(r"make ([a-z]+)", span):
            return f"\n{target[1]}: " in makefile
        return not PLACE.fullmatch(span) or "NAME" in span or (ROOT / span).exists()

    assert [span for span in spans(TEXTS[name]) if not exists(span)] == []


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    here = ROOT / name
    broken: list[str] = []
    for link in LINK.findall(TEXTS[name]):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target: Path = (here.parent / path).resolve() if path else here
        if not target.exists() or (anchor and anchor not in headings(target.read_text("utf-8"))):
            broken.append(link)
    assert broken == []


def test_the_first_document_is_short() -> None:
    assert len(TEXTS["README.md"].split()) <= 700
