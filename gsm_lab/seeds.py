"""Named random streams: a stream is its name, so no two of them overlap and none depends on another.

`seed + index` makes item 1 of seed 7 the item 0 of seed 8; a hash of the whole name does not.
"""

import hashlib
import json
import random

Name = str | int


def stream_seed(seed: int, *names: Name) -> int:
    """A 64-bit seed that depends on every part of the name: `stream_seed(7, "train", 12)`."""
    text = json.dumps([seed, *names], separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def stream(seed: int, *names: Name) -> random.Random:
    """The random stream of that name, always from its beginning."""
    return random.Random(stream_seed(seed, *names))
