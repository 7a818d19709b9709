"""What goes wrong with the equation of a reverse problem."""

import random
from collections.abc import Callable
from dataclasses import replace

from gsm_lab.problems.mutations.changes import Rows, renumbered
from gsm_lab.problems.rewriting import Chain, Gold, parts_of
from gsm_lab.problems.statements import Binary, Given, Solve, Statement


def _change_given(gold: Gold, change: Callable[[Given], Given]) -> Rows:
    for at, one in enumerate(gold.statements):
        if isinstance(one, Given):
            return gold.with_statement(at, change(one))
    return None


def wrong_equation(gold: Gold, rng: random.Random) -> Rows:
    """Another left side set equal to the given value; the right solution after it."""

    def change(given: Given) -> Given:
        left = renumbered(given.chain[0], gold, rng) or Binary("+", given.chain[0], 1)
        return replace(given, chain=(left, *given.chain[1:]))

    return _change_given(gold, change)


def wrong_given(gold: Gold, rng: random.Random) -> Rows:
    """Another value recalled than the one that the text gives; the right equation after it."""
    return _change_given(gold, lambda given: replace(given, value=gold.other(given.value or 0, rng)))


def wrong_solving(gold: Gold, rng: random.Random) -> Rows:
    """A wrong number on the way from the equation to the unknown; the right answer after it."""
    return _change_solving(gold, rng, lambda chain: rng.randrange(1, len(chain)))


def wrong_left_side(gold: Gold, rng: random.Random) -> Rows:
    """Another left side of an equation on the way, `99 * k = 24`; the right numbers after it."""
    return _change_solving(gold, rng, lambda chain: 0)


def _change_solving(gold: Gold, rng: random.Random, place: Callable[[Chain], int]) -> Rows:
    choices = [(at, one) for at, one in enumerate(gold.statements) if isinstance(one, Solve)]
    if not choices:
        return None
    at, solve = rng.choice(choices)
    link = place(solve.chain)
    changed = renumbered(solve.chain[link], gold, rng) or Binary("*", rng.randint(2, 99), solve.chain[link])
    return gold.with_statement(at, Solve((*solve.chain[:link], changed, *solve.chain[link + 1 :])))


def wrong_form(gold: Gold, rng: random.Random) -> Rows:
    """`x + 6` for `6 * x` in a link of a chain; the next link is right again."""

    def change(at: int) -> Chain | None:
        chain = gold.step(at).chain
        links = [
            (link, put(Binary("+", part.right, part.left)))
            for link in range(1, len(chain))
            for part, put in parts_of(chain[link])
            if part.sign == "*" and part.right == gold.letter
        ]
        if not links:
            return None
        link, new = rng.choice(links)
        return (*chain[:link], new, *chain[link + 1 :])

    return gold.with_chain_at_any(gold.calculations, rng, change) if gold.is_reverse else None


def no_equation(gold: Gold, rng: random.Random) -> Rows:
    """The equation of a reverse problem left out, with all of its solution."""
    rows: list[Statement] = [one for one in gold.statements if not isinstance(one, Given | Solve)]
    return rows if len(rows) < len(gold.statements) else None
