"""Databases and dialogues made by rule, so that everything runs offline and in minutes."""

from mtsql.data.embedded.generate import generate

__all__ = ["generate"]
