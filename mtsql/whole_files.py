"""Files that nobody reads half of."""

from pathlib import Path


def write_whole(path: Path, text: str) -> Path:
    """Write a file whole or not at all, so that nobody reads half of it, and return its path."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    return partial.rename(path)
