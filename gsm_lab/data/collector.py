"""Drawing exercises without Python's search for cycles, of which they have none: up to a tenth of the time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Without the search in this process, in all its threads; afterwards as before. For batches, not for hours."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
