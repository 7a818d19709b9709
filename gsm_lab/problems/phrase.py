"""Patterns with slots, cut up once: to fill one is to join strings, where `str.format` reads the pattern every time."""

from collections.abc import Sequence
from string import Formatter

Phrase = tuple[tuple[tuple[str, int], ...], str]
"""For every slot the text before it and the number of what is put in; then the text behind the last slot."""


def phrase_of(pattern: str, slots: Sequence[str]) -> Phrase:
    """The pattern cut up at its slots; the number of a slot is its place in `slots`."""
    pieces: list[tuple[str, int]] = []
    text = ""
    for before, slot, _, _ in Formatter().parse(pattern):
        text += before
        if slot is not None:
            pieces.append((text, slots.index(slot)))
            text = ""
    return tuple(pieces), text


def single_spaced(text: str) -> str:
    """The text with one space for every white space in it, and none at its ends: `" ".join(text.split())`."""
    if "  " in text or not text.isprintable():  # of all white space the space alone is printable
        return " ".join(text.split())
    return text.strip()


def fill(phrase: Phrase, texts: tuple[str, ...]) -> str:
    """The phrase with `texts` in its slots, by their numbers."""
    pieces, end = phrase
    filled: list[str] = []
    for before, number in pieces:
        filled.append(before)
        filled.append(texts[number])
    filled.append(end)
    return "".join(filled)
