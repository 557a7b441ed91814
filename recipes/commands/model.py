"""`mtsql model`: pretrained models, brought to where recipes find them by name."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.commands.shared import Commands, add_command, add_group, require_stack

if TYPE_CHECKING:
    from actors.pretrained.gguf_model import Progress


def add(commands: Commands) -> None:
    actions = add_group(commands, "model", "fetch a pretrained model", "ACTION")

    parser = add_command(actions, "fetch", fetch, "fetch a model, for `model.path: NAME`")
    parser.add_argument("name", metavar="NAME", help="smollm2-135m, or ORGANISATION/MODEL of a hub")
    parser.add_argument("--restart", action="store_true", help="fetch it again if it is there")

    parser = add_command(
        actions, "import", import_model, "write a GGUF file as a Hugging Face folder"
    )
    parser.add_argument("file", metavar="FILE.gguf", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")


def fetch(arguments: argparse.Namespace) -> int:
    require_stack()
    from actors.pretrained.fetch import fetch

    with _bar() as progress:
        out = fetch(arguments.name, say=print, progress=progress, restart=arguments.restart)
    print(f"{out}\nuse it with model.path={arguments.name}")
    return 0


def import_model(arguments: argparse.Namespace) -> int:
    require_stack()
    from actors.pretrained.gguf_model import import_gguf

    with _bar() as progress:
        import_gguf(arguments.file, arguments.out, progress=progress)
    print(f"{arguments.out}\nuse it with model.path={arguments.out}")
    return 0


@contextmanager
def _bar() -> "Iterator[Progress]":
    """Of the tensors that are converted; none before the first, nor without a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with ExitStack() as stack:
        bars: list[Progress] = []

        def progress(done: int, total: int) -> None:
            if not bars and console.is_terminal:
                bars.append(stack.enter_context(Progress(console=console, transient=True)))
                bars[0].add_task("converting", total=total)
            for bar in bars:
                bar.update(bar.task_ids[0], completed=done)

        yield progress
