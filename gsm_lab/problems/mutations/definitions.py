"""Wrong definitions; all numbers after them stay right."""

import random
from collections.abc import Callable

from gsm_lab.problems.mutations.changes import Rows, changed_link, is_equal, renumbered, resigned, unused_variable
from gsm_lab.problems.rewriting import Chain, Gold, invented_name, parts_of
from gsm_lab.problems.statements import Binary, Expression
from gsm_lab.problems.trace import names_in, substitute, write_expression


def _redefine(gold: Gold, rng: random.Random, change: Callable[[int, Expression], Expression | None]) -> Rows:
    """Another definition in one step, of another meaning; all numbers after it stay right."""

    def changed(at: int) -> Chain | None:
        step = gold.step(at)
        new = change(at, step.chain[0])
        if new is None or gold.means(new, step.name) or _is_form_put_in(new, step.chain[0], gold):
            return None
        return (new, *step.chain[1:])

    return gold.with_chain_at_any(gold.calculations, rng, changed)


def _is_form_put_in(new: Expression, old: Expression, gold: Gold) -> bool:
    """Whether an expression in the unknown alone is the form of another: `1 + k` for `1 + W` where W is k."""
    return gold.is_reverse and set(names_in(new)) == {gold.letter} and is_equal(new, old, gold)


def wrong_operator(gold: Gold, rng: random.Random) -> Rows:
    """Another sign in a definition."""
    return _redefine(gold, rng, lambda at, definition: resigned(definition, rng))


def wrong_operand(gold: Gold, rng: random.Random) -> Rows:
    """Another quantity in a definition, one that is known already."""

    def change(at: int, definition: Expression) -> Expression | None:
        used = names_in(definition)
        others = [name for name in gold.before(at) if name not in used]
        return substitute(definition, {rng.choice(used): rng.choice(others)}) if used and others else None

    return _redefine(gold, rng, change)


def undefined_operand(gold: Gold, rng: random.Random) -> Rows:
    """A letter, or a name, in a definition that stands for nothing."""

    def change(at: int, definition: Expression) -> Expression | None:
        new = unused_variable(gold, rng) if gold.exercise.grammar.has_variables else invented_name(gold, rng)
        return None if new is None else substitute(definition, {rng.choice(names_in(definition)): new})

    return _redefine(gold, rng, change)


def missing_operand(gold: Gold, rng: random.Random) -> Rows:
    """A definition with one operand left out."""

    def change(at: int, definition: Expression) -> Expression | None:
        part, put = rng.choice(list(parts_of(definition)))
        return put(rng.choice((part.left, part.right)))

    return _redefine(gold, rng, change)


def extra_operand(gold: Gold, rng: random.Random) -> Rows:
    """A definition with one operand too many."""
    return _redefine(
        gold, rng, lambda at, definition: Binary(rng.choice("+-*"), definition, rng.choice(gold.before(at)))
    )


def swapped_operands(gold: Gold, rng: random.Random) -> Rows:
    """What is taken away and what it is taken from in each other's place, or what is divided and by what."""

    def change(at: int, definition: Expression) -> Expression | None:
        found = [(part, put) for part, put in parts_of(definition) if part.sign in "-/"]
        if not found:
            return None
        part, put = rng.choice(found)
        return put(part._replace(left=part.right, right=part.left))

    return _redefine(gold, rng, change)


def lost_brackets(gold: Gold, rng: random.Random) -> Rows:
    """`2 * a + b` for `2 * ( a + b )`, in a definition or in a later link."""
    return _redefine(gold, rng, lambda at, definition: _unbracketed(definition)) or changed_link(
        gold, rng, _unbracketed
    )


def _unbracketed(expression: Expression) -> Expression | None:
    for part, put in parts_of(expression):
        sign, left, right = part.sign, part.left, part.right
        if sign != "+" and isinstance(right, Binary) and right.sign in "+-":
            return put(Binary(right.sign, Binary(sign, left, right.left), right.right))
        if sign in "*/" and isinstance(left, Binary) and left.sign in "+-":
            return put(Binary(left.sign, left.left, Binary(sign, left.right, right)))
    return None


def circular(gold: Gold, rng: random.Random) -> Rows:
    """A quantity computed from itself."""

    def change(at: int) -> Chain | None:
        step = gold.step(at)
        return (step.variable, *step.chain[1:]) if len(step.chain) > 1 else None

    return gold.with_chain_at_any(gold.calculations, rng, change)


def wrong_constant(gold: Gold, rng: random.Random) -> Rows:
    """Another constant in a definition."""
    return _redefine(gold, rng, lambda at, definition: renumbered(definition, gold, rng))


def no_operator(gold: Gold, rng: random.Random) -> Rows:
    """`so M = e k = 24`: the signs of a sum left out."""

    def change(at: int) -> Chain | None:
        step = gold.step(at)
        if len(step.chain) == 1 or gold.means(_all_products(step.chain[0]), step.name):
            return None
        first, *others, value = map(_without_signs, step.chain)
        return rng.choice([(first, *step.chain[1:]), (first, *others, value), (f"{first} {value}",)])

    return gold.with_chain_at_any(gold.calculations, rng, change)


def _all_products(expression: Expression) -> Expression:
    """What an expression says to who reads no sign as multiplication."""
    if not isinstance(expression, Binary):
        return expression
    return Binary("*", _all_products(expression.left), _all_products(expression.right))


def _without_signs(expression: Expression) -> str:
    return " ".join(word for word in write_expression(expression).split(" ") if word not in "+-*/")
