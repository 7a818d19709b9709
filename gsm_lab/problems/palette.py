"""The numbers that problems are coloured with: one for every definition, and one for every role in another."""

from functools import lru_cache
from hashlib import blake2b
from typing import Final

from gsm_lab.problems.graph import Operation

PRIME: Final = 2**89 - 1


@lru_cache(maxsize=1 << 16)
def colour_of(*definition: object) -> int:
    """A cryptographic hash of what a definition says, as a number modulo the prime."""
    text = "\x1f".join(map(str, definition))
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big") % PRIME


ADDED: Final[int] = colour_of("role", 0)
SUBTRACTED: Final[int] = colour_of("role", 1)
COUNT: Final[int] = colour_of("role", 2)
RATE: Final[int] = colour_of("role", 3)
ASKED: Final[int] = colour_of("role", 4)
TOP: Final[int] = colour_of("role", 5)
USED: Final[int] = colour_of("role", 6)
USES: Final[int] = colour_of("role", 7)
SHAPES: Final = {operation: colour_of(operation) for operation in Operation}
"""The colours of definitions without their numbers."""
