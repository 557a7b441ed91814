"""Pretrained models, brought to where recipes find them by name."""
