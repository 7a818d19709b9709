"""What a reward can say of a completion besides its grade: its length, and its language."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from gsm_lab.errors import RecipeError

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TAG = re.compile(r"</?[A-Za-z]{1,20}>")
_WORD = re.compile(f"[{_HAN}]|[^\\W\\d_{_HAN}]{{2,}}")


def linear_length(tokens: int, free: int, full: int) -> float:
    """-1 to 0: 0 up to `free` tokens, from there on a straight line down to -1 at `full` tokens and more.

    Source: soft overlong punishment, arXiv 2503.14476.

    Raises:
        RecipeError: not 0 <= free < full.
    """
    if not 0 <= free < full:
        raise RecipeError(f"a length penalty from {free} to {full} tokens: give 0 <= free < full.")
    return max(-1.0, min(0.0, (free - tokens) / (full - free)))


def group_length(tokens: Sequence[int], outcomes: Sequence[float]) -> list[float]:
    """-1/2 to 1/2: within a group of completions of one problem, the short right ones gain, the long ones lose.

    With `share = 1/2 - (tokens - least) / (most - least)`, a right completion gets `share`, a wrong one
    `min(0, share)`; all get 0 where all are equally long. An outcome between or outside 0 and 1, as noise correction
    makes it, goes along the straight line through the two. Source: the length reward of arXiv 2501.12599.
    """
    least, most = min(tokens, default=0), max(tokens, default=0)
    if least == most:
        return [0.0] * len(tokens)
    shares = [0.5 - (count - least) / (most - least) for count in tokens]
    return [right * share + (1 - right) * min(0.0, share) for share, right in zip(shares, outcomes, strict=True)]


def language_consistency(prompt: str, completion: str) -> float:
    """0 to 1: the share of the completion's words that are written in the script of most of the prompt's words.

    A word is one Chinese character, or two or more letters in a row; so names of variables, numbers and signs are none,
    and tags such as <think> do not count. Where the prompt or the completion has no words, nothing differs: 1.
    Source: the share of words in the prompt's language, arXiv 2501.12948.
    """
    wanted, found = _scripts(prompt), _scripts(completion)
    if not wanted or not found:
        return 1.0
    return found[wanted.most_common(1)[0][0]] / found.total()


def _scripts(text: str) -> Counter[str]:
    """How many words of each script are in a text."""
    return Counter(_script(word[0]) for word in _WORD.findall(_TAG.sub(" ", text)))


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """The script of a letter: "LATIN", "CJK", "CYRILLIC"."""
    return re.split(r"[ -]", unicodedata.name(letter, "OTHER"))[0]
