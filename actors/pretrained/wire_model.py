"""A copy of a model with more tokens: the wire's constant texts, or the marks of another task.

Files are copied as streams, so that a large model is never in memory. A new token's rows, in the
embedding and in an untied head, are the mean of the rows of the pieces that its text was before.
"""

import json
import logging
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open

from actors.rollout.codec import load_tokenizer, run_codec
from actors.rollout.wire_tokens import with_wire_tokens
from mtsql.config.run import RunConfig
from mtsql.errors import MachineError, ModelError

logger = logging.getLogger(__name__)

MULTIPLE = 64
"""Of rows: keeps matrix shapes friendly to kernels and lets ranks share them."""
ROOM_BYTES = 64 << 20
"""On the disk, for tokenizer and rows."""
OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}
"""Of the same model in other forms, which would not have the new rows."""
_CHUNK = 1 << 24
_CHUNK_ROWS = 4096
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growth:
    """How tensors with a row for each token grow.

    Example: 6 tokens; "ab" was 2 and 3, "cde" was 4, 4 and 5
        old_rows 6, new_rows 64, pieces {6: [2, 3], 7: [4, 4, 5]}; rows 8 to 63 belong to no token
    """

    old_rows: int
    new_rows: int
    pieces: Mapping[int, Sequence[int]]


def make_wire_model(model: Path, out: Path, config: RunConfig) -> None:
    """Write the copy as a Hugging Face folder, whole or not at all.

    Args:
        out: replaced if it exists.

    Raises:
        ModelError: the model's tokenizer, template or weights cannot be given new tokens.
        MachineError: too little room on the disk.
    """
    tokenizer, pieces = with_wire_tokens(model, config)

    def refused(why: str) -> ModelError:
        return ModelError(f"model.wire_tokens: {model}: {why}: set model.wire_tokens=false")

    def check(folder: Path) -> None:
        run_codec(load_tokenizer(folder), config)

    add_tokens(
        model,
        out,
        tokenizer,
        pieces,
        refused=refused,
        check=check,
        instead="set model.wire_tokens=false",
    )


def add_tokens(
    model: Path,
    out: Path,
    tokenizer: Any,  # noqa: ANN401 - transformers' tokenizers share no useful type
    pieces: Mapping[int, Sequence[int]],
    *,
    refused: Callable[[str], ModelError],
    check: Callable[[Path], None] = lambda _: None,
    instead: str = "take a smaller model",
) -> None:
    """Write a copy of a model with more tokens as a Hugging Face folder, whole or not at all.

    Args:
        out: replaced if it exists.
        tokenizer: with the new tokens.
        pieces: by each new token's id, the ids whose rows its own is the mean of.
        refused: the error that says why the model cannot be given tokens.
        check: looks at the folder before it takes its name.
        instead: another way than to make space on the disk.

    Raises:
        ModelError: what `refused` or `check` make.
        MachineError: too little room on the disk.
    """
    weights = sorted(model.glob("*.safetensors"))
    needed = sum(path.stat().st_size for path in weights) + ROOM_BYTES
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise MachineError(
            f"{out}: the copy of {model} needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are "
            f"free: make free space, set run_dir=, or {instead}"
        )
    kind = json.loads((model / "config.json").read_text(encoding="utf-8"))
    sections = [part for part in (kind, kind.get("text_config")) if isinstance(part, dict)]
    sizes = [part for part in sections if "vocab_size" in part]
    if not sizes:
        raise refused("config.json has no vocab_size")
    num_rows: int = sizes[0]["vocab_size"]
    num_needed = max(pieces, default=0) + 1
    new_rows = max(num_rows, -(-num_needed // MULTIPLE) * MULTIPLE)
    growth = _Growth(old_rows=num_rows, new_rows=new_rows, pieces=pieces)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        grown = [
            name for path in weights for name in _write_grown(path, partial / path.name, growth)
        ]
        if not grown:
            raise refused(f"no tensor of its weights has a row for each of {num_rows} tokens")
        for path in model.iterdir():
            if path.is_file() and path.suffix not in {".safetensors", *OTHER_WEIGHTS}:
                shutil.copyfile(path, partial / path.name)
        for part in sizes:
            part["vocab_size"] = new_rows
        _write_json(partial / "config.json", kind)
        _update_index(partial)
        tokenizer.save_pretrained(partial)
        _check_tokens(partial, growth, refused)
        check(partial)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    what = {"model": model, "tokens": len(pieces), "rows": new_rows, "rows_before": num_rows}
    logger.info("tokens added", extra=what | {"tensors": grown})


def _write_grown(source: Path, target: Path, growth: _Growth) -> list[str]:
    """Copy a safetensors file tensor by tensor; the names of those that got rows."""
    with source.open("rb") as file, target.open("wb") as out:
        header = json.loads(file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0]))
        begin = file.tell()
        size = begin + max(
            (one["data_offsets"][1] for one in header.values() if "shape" in one), default=0
        )
        if source.stat().st_size < size:
            raise ModelError(f"{source}: is cut short; fetch the model again")
        about = header.pop("__metadata__", {"format": "pt"})
        order = sorted(header, key=lambda name: header[name]["data_offsets"])
        grown = [name for name in order if _has_rows(name, header[name]["shape"], growth)]
        new_header: dict[str, Any] = {"__metadata__": about}
        position = 0
        for name in order:
            shape, (start, end) = header[name]["shape"], header[name]["data_offsets"]
            size = end - start
            if name in grown:
                shape = [growth.new_rows, *shape[1:]]
                size = size // growth.old_rows * growth.new_rows
            offsets = [position, position + size]
            new_header[name] = {**header[name], "shape": shape, "data_offsets": offsets}
            position += size
        text = json.dumps(new_header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        out.write(_LENGTH.pack(len(text)) + text)
        first = out.tell()
        for name in order:
            start, end = header[name]["data_offsets"]
            file.seek(begin + start)
            _copy(file, out, end - start)
            if name in grown:
                _write_rows(source, name, out, (end - start) // growth.old_rows, growth)
        assert out.tell() == first + position
    return grown


def _has_rows(name: str, shape: Sequence[int], growth: _Growth) -> bool:
    """A row for each token: an embedding, a head, a head's bias."""
    return bool(shape) and shape[0] == growth.old_rows and ".layers." not in name


def _copy(file: BinaryIO, out: BinaryIO, size: int) -> None:
    while size:
        chunk = file.read(min(size, _CHUNK))
        assert chunk, "the file's length was looked at"
        out.write(chunk)
        size -= len(chunk)


def _write_rows(source: Path, name: str, out: BinaryIO, row_bytes: int, growth: _Growth) -> None:
    """Behind a tensor that has just been written: rows to its new size, and those of the pieces."""
    end = out.tell()
    first = end - growth.old_rows * row_bytes
    with safe_open(source, framework="pt") as file:
        rows = file.get_slice(name)
        total = torch.zeros(rows.get_shape()[1:], dtype=torch.float64)
        for start in range(0, growth.old_rows, _CHUNK_ROWS):
            total += rows[start : start + _CHUNK_ROWS].double().sum(0)
        # Zeros would be likelier than most tokens wherever those have negative logits.
        mean = _bytes(total / growth.old_rows, rows)
        for _ in range(growth.new_rows - growth.old_rows):
            out.write(mean)
        for token, pieces in growth.pieces.items():
            parts = torch.stack([rows[piece : piece + 1][0].double() for piece in pieces])
            out.seek(first + token * row_bytes)
            out.write(_bytes(parts.mean(0), rows))
    out.seek(first + growth.new_rows * row_bytes)


def _bytes(row: torch.Tensor, like: Any) -> bytes:  # noqa: ANN401 - safetensors' slices have no type
    """A row in the precision of a tensor in a file."""
    return row.to(like[0:1].dtype).reshape(-1).view(torch.uint8).numpy().tobytes()


def _update_index(folder: Path) -> None:
    """The size that the index of several weight files tells of them all."""
    path = folder / "model.safetensors.index.json"
    if path.is_file():
        index = json.loads(path.read_text(encoding="utf-8"))
        total = 0
        for weights in folder.glob("*.safetensors"):
            with weights.open("rb") as file:
                (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            total += weights.stat().st_size - _LENGTH.size - length
        index.setdefault("metadata", {})["total_size"] = total
        _write_json(path, index)


def _check_tokens(folder: Path, growth: _Growth, refused: Callable[[str], ModelError]) -> None:
    """The tokenizer that was written is read again as others will read it."""
    tokenizer = load_tokenizer(folder)
    for token in growth.pieces:
        text = tokenizer.decode([token])
        if tokenizer(text, add_special_tokens=False)["input_ids"] != [token]:
            raise refused(f"its tokenizer forgets {text!r} when it is saved")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
