"""Python's garbage collector, kept from looking at what stays anyway."""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def long_lived_objects() -> Generator[None]:
    """Within it the collector leaves alone what exists now: it would look again and again in vain.

    Not for ever: at the interpreter's end nothing would free what extensions have registered, and
    nanobind (DuckDB) reports each such object on stderr as a leak.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
