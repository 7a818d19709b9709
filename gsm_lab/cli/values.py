"""Values of options: how a text on the command line is read, and what is said of one that cannot be."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import typer

RANGE = re.compile(r"([0-9]+)-([0-9]+)")


def whole(text: str, name: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{name}: {text!r} is not a whole number.") from None


def span_of(text: str) -> tuple[int, int]:
    """`3-5` as 3 and 5.

    Raises:
        ValueError: it is not written so.
    """
    if not (found := RANGE.fullmatch(text)):
        raise ValueError
    return int(found[1]), int(found[2])


def ops_of(text: str) -> list[str]:
    """`2-4` as 2, 3 and 4."""
    if "-" not in text:
        return [str(whole(text, "ops"))]
    try:
        low, high = span_of(text)
    except ValueError:
        raise typer.BadParameter(f"ops: {text!r} is no range: write both ends, as 2-10, or one number.") from None
    if low > high:
        raise typer.BadParameter(f"ops: {text!r} is empty: write the smaller number first.")
    return [str(op) for op in range(low, high + 1)]


def shares_of(text: str, name: str, keys_of: Callable[[str], list[str]] = lambda key: [key]) -> dict[str, float]:
    """`zoo=0.9,school=0.1` as shares; without shares all are alike. What stands for several keys is shared evenly."""
    parts = [part.partition("=") for part in text.split(",")]
    if not all(group for group, _, _ in parts):
        raise typer.BadParameter(f"{name}: {text!r} has an empty entry: write entries with commas between.")
    if len({equals for _, equals, _ in parts}) > 1:
        raise typer.BadParameter(f"{name}: {text!r} gives shares for some and not for others.")
    shares: dict[str, float] = {}
    for group, _, share in parts:
        keys = keys_of(group)
        for key in keys:
            shares[key] = shares.get(key, 0.0) + (_share(share, group, name) / len(keys) if parts[0][1] else 1.0)
    return shares if parts[0][1] else dict.fromkeys(shares, 1.0 / len(shares))


def _share(text: str, group: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        said = f"{text!r} is not a share" if text else f"{group!r} has no share"
        raise typer.BadParameter(f"{name}: {said}: give a number such as 0.25.") from None


# ---------------------------------------------------------------------------------------------- of generate


def sizes_of(split: str, num_problems: int | None) -> dict[str, int]:
    """`rl=9000,test=1000` as the size of each split; a name alone has all the problems, 10,000 if not said."""
    if "=" not in split and "," not in split:
        return {split: 10_000 if num_problems is None else num_problems}
    pairs = [part.partition("=") for part in split.split(",")]
    if unsized := [name for name, _, size in pairs if not (name and size)]:
        raise typer.BadParameter(
            f"split: {split!r} gives no size for {', '.join(unsized) or 'a split'}: write rl=9000,test=1000."
        )
    sizes = {name: whole(size, "split") for name, _, size in pairs}
    if len(sizes) < len(pairs):
        raise typer.BadParameter(f"split: {split!r} names a split twice: give each once, with its size.")
    if least := [f"{name}={size}" for name, size in sizes.items() if size < 1]:
        raise typer.BadParameter(f"split: {', '.join(least)}: give a whole number of at least 1.")
    if num_problems not in (None, sum(sizes.values())):
        raise typer.BadParameter(
            f"num-problems: {num_problems} and the {sum(sizes.values())} of --split {split} contradict each other: "
            f"give only one of them."
        )
    return sizes


def part_of(text: str) -> tuple[int, int]:
    """`0/4` as the first of four parts."""
    if not (found := re.fullmatch("([0-9]+)/([0-9]+)", text)):
        raise typer.BadParameter(f"shard: {text!r} is no part: write i/N with i from 0, as 0/4 for the first of 4.")
    return int(found[1]), int(found[2])


# ---------------------------------------------------------------------------------------------- settings


def settings_of(
    texts: Sequence[str], options: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`depth=3-5` and the like as settings of a ProblemSpec and of a Style.

    Args:
        texts: what was given with --set.
        options: the settings that the command has an option for.
    """
    import difflib
    from dataclasses import fields

    from gsm_lab.problems import ProblemSpec, Style

    kinds = [
        {
            field.name: field.type.__name__ if isinstance(field.type, type) else str(field.type)
            for field in fields(owner)
        }
        for owner in (ProblemSpec, Style)
    ]
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for text in texts:
        name, _, value = text.partition("=")
        owner = next((number for number, known in enumerate(kinds) if name in known), None)
        if owner is None:
            near = difflib.get_close_matches(name, [*kinds[0], *kinds[1]], 1)
            raise typer.BadParameter(
                f"set: {text!r} is no setting: write name=value with a field of ProblemSpec or Style"
                + (f"; did you mean {near[0]}?" if near else ".")
            )
        if name in found[owner]:
            raise typer.BadParameter(f"set: {text!r} gives {name} a second time: give every setting once.")
        found[owner][name] = _typed(text, kinds[owner][name])
        if name in options:
            raise typer.BadParameter(
                f"set: {text!r} would contradict {options[name]}, which gives {name}: write {options[name]} {value}."
            )
    return found


def _typed(text: str, kind: str) -> Any:
    """The value of `name=value` for a field of this type."""
    name, _, value = text.partition("=")
    readings = [reading for part, reading in _READINGS.items() if part in kind.split(" | ")]
    for _, read in readings:
        try:
            return read(value)
        except (ValueError, KeyError):
            continue
    wanted = ", or ".join(form for form, _ in readings)
    said = "cannot be read" if value else "has no value"
    raise typer.BadParameter(f"set: {text!r} {said}: after {name}= give {wanted}.")


def _words(text: str) -> tuple[str, ...]:
    """`a,b` as a and b."""
    words = tuple(text.split(","))
    if not all(words):
        raise ValueError
    return words


def _word(text: str) -> str:
    if not text:
        raise ValueError
    return text


_READINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "bool": ("yes or no", lambda text: {"yes": True, "true": True, "no": False, "false": False}[text.lower()]),
    "int": ("a whole number", int),
    "tuple[int, int]": ("a range such as 1-5", span_of),
    "float": ("a number such as 0.25", float),
    "tuple[float, ...]": ("numbers with commas between", lambda text: tuple(map(float, text.split(",")))),
    "tuple[str, ...]": ("words with commas between", _words),
    "str": ("a word", _word),
    "None": ("none", lambda text: {"none": None}[text.lower()]),
}
"""What a field of each type is given as, for a person, and how that is read."""
