"""MTSQL's library: data, SQL, evaluation, memory, rewards, advantages, curriculum, reports.

Pure Python and SQL. It never imports ray, torch, verl, vllm or transformers.
"""

import logging

# A library is silent until its user says where its records go.
logging.getLogger(__name__).addHandler(logging.NullHandler())


__version__ = "0.1.0"
