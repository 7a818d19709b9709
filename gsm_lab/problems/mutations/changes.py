"""What mutations are made of: small changes of expressions and links."""

import random
from collections.abc import Callable

from gsm_lab.problems.grammar import LETTERS, VARIABLES
from gsm_lab.problems.rewriting import Chain, Gold, parts_of
from gsm_lab.problems.statements import Binary, Expression, Statement
from gsm_lab.problems.trace import linear_of, number_of

Rows = list[Statement] | None
"""The statements of a changed solution; None where there is no place for the change."""


def resigned(expression: Expression, rng: random.Random) -> Expression | None:
    """The expression with one other sign."""
    parts = list(parts_of(expression))
    if not parts:
        return None
    part, put = rng.choice(parts)
    return put(part._replace(sign=rng.choice([sign for sign in "+-*/" if sign != part.sign])))


def renumbered(expression: Expression, gold: Gold, rng: random.Random) -> Expression | None:
    """The expression with its first number changed, or None if it has none."""
    if isinstance(expression, int):
        return gold.other(expression, rng)
    if not isinstance(expression, Binary):
        return None
    left = renumbered(expression.left, gold, rng)
    if left is not None:
        return expression._replace(left=left)
    right = renumbered(expression.right, gold, rng)
    return None if right is None else expression._replace(right=right)


def changed_link(gold: Gold, rng: random.Random, change: Callable[[Expression], Expression | None]) -> Rows:
    """Another link inside a step's chain, of another value; those around it stay right."""

    def changed(at: int) -> Chain | None:
        chain = gold.step(at).chain
        inside = range(1, len(chain) - 1)
        for link in rng.sample(inside, len(inside)):
            new = change(chain[link])
            if new is not None and not is_equal(new, chain[link], gold):
                return (*chain[:link], new, *chain[link + 1 :])
        return None

    return gold.with_chain_at_any(gold.steps, rng, changed)


def is_equal(one: Expression, other: Expression, gold: Gold) -> bool:
    """Whether two links have the same value, or the same form in the unknown."""
    if gold.is_reverse:
        return linear_of(one, gold.forms) == linear_of(other, gold.forms)
    return number_of(one, gold.modulus) == number_of(other, gold.modulus)


def unused_variable(gold: Gold, rng: random.Random) -> str:
    """A letter of the grammar that the solution does not use."""
    used = set(gold.name_of)
    return rng.choice([letter for letter in LETTERS if letter not in used] or [VARIABLES[len(used) + 1]])
