"""The base of every part of a recipe."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, strict about its keys, and without infinite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
