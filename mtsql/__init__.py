"""MTSQL's library: data, SQL, evaluation, memory, rewards, advantages, curriculum, reports.

Pure Python and SQL. It never imports ray, torch, verl, vllm or transformers.
"""

__version__ = "0.1.0"
