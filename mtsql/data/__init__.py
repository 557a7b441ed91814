"""Dialogues: their records, their readers and the embedded generator."""
