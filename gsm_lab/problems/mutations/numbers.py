"""Wrong numbers: values, links of chains, slips carried on."""

import random
from collections.abc import Mapping
from dataclasses import replace

from gsm_lab.problems.graph import Operation
from gsm_lab.problems.mutations.changes import Rows, changed_link, renumbered
from gsm_lab.problems.rewriting import Chain, Gold
from gsm_lab.problems.statements import Answer, Binary, Expression, Malformed, Solve, Statement, Step
from gsm_lab.problems.trace import names_in, number_of, substitute, write_expression


def wrong_value(gold: Gold, rng: random.Random) -> Rows:
    """Another value at the end of a step's chain; the steps that use it, and the answer, stay right."""

    def change(at: int) -> Chain | None:
        *links, last = gold.step(at).chain
        changed = renumbered(last, gold, rng)
        return None if changed is None else (*links, changed)

    return gold.with_chain_at_any(gold.steps, rng, change)


def false_equality(gold: Gold, rng: random.Random) -> Rows:
    """A wrong number inside a step's chain, its value right again."""
    return changed_link(gold, rng, lambda link: renumbered(link, gold, rng))


def false_link(gold: Gold, rng: random.Random) -> Rows:
    """A link too many, a wrong number: `2 + 3 = 999 = 5`."""

    def change(at: int) -> Chain | None:
        *links, value = gold.step(at).chain
        return (*links, gold.other(value, rng), value) if links and isinstance(value, int) else None

    return gold.with_chain_at_any(gold.steps, rng, change)


def nonsense_numbers(gold: Gold, rng: random.Random) -> Rows:
    """Numbers put in that are not those of the operands, and the right value after them."""

    def change(at: int) -> Chain | None:
        chain = gold.step(at).chain
        if len(chain) < 3:
            return None
        true, nonsense = _numbers(chain[1], gold), _all_renumbered(chain[1], gold, rng)
        return None if sorted(_numbers(nonsense, gold)) == sorted(true) else (chain[0], nonsense, chain[-1])

    return gold.with_chain_at_any(gold.calculations, rng, change)


def _all_renumbered(expression: Expression, gold: Gold, rng: random.Random) -> Expression:
    if isinstance(expression, Binary):
        left, right = (_all_renumbered(part, gold, rng) for part in (expression.left, expression.right))
        return expression._replace(left=left, right=right)
    return gold.other(expression, rng) if isinstance(expression, int) else expression


def _numbers(expression: Expression, gold: Gold) -> list[int]:
    if isinstance(expression, Binary):
        return _numbers(expression.left, gold) + _numbers(expression.right, gold)
    if not isinstance(expression, int):
        return []
    return [expression if gold.modulus is None else expression % gold.modulus]


def _shifted(expression: Expression) -> Expression | None:
    """The expression with one taken from a term of a sum and given to the other, or None if no sum allows it."""
    if not isinstance(expression, Binary):
        return None
    left, right = expression.left, expression.right
    if expression.sign == "+" and isinstance(left, int) and isinstance(right, int) and right > 1 and left + 1 != right:
        return Binary("+", left + 1, right - 1)
    if (changed := _shifted(left)) is not None:
        return expression._replace(left=changed)
    return None if (changed := _shifted(right)) is None else expression._replace(right=changed)


def false_grouping(gold: Gold, rng: random.Random) -> Rows:
    """A link between with other terms of the same sum: `3 + 6 = 4 + 5 = 9`; every equality holds."""

    def change(at: int) -> Chain | None:
        chain = gold.step(at).chain
        shifted = _shifted(chain[1]) if len(chain) > 2 else None
        return None if shifted is None else (*chain[:2], shifted, *chain[2:])

    return gold.with_chain_at_any(gold.steps, rng, change)


def bare_value(gold: Gold, rng: random.Random) -> Rows:
    """A right value without any calculation."""

    def change(at: int) -> Chain | None:
        chain = gold.step(at).chain
        return None if gold.is_open(chain[0]) else chain[-1:]

    return gold.with_chain_at_any(gold.calculations, rng, change)


def obvious(gold: Gold, rng: random.Random) -> Rows:
    """ "It is obvious that" in place of a calculation, or of all the solving of an equation."""
    end = gold.exercise.grammar.statement_end
    solving = [one for one in gold.statements if isinstance(one, Solve)]
    if solving and rng.random() < 0.5:
        said = Malformed(f"It is obvious that {write_expression(solving[-1].chain[0])} is {gold.exercise.answer}{end}")
        return [said if one is solving[0] else one for one in gold.statements if one not in solving[1:]]
    if not gold.calculations:
        return None
    at = rng.choice(gold.calculations)
    step = gold.step(at)
    value = write_expression(step.chain[-1])
    if not gold.is_open(step.chain[0]) and rng.random() < 0.5:
        return gold.with_chain(at, (f"{value} , as is obvious",))
    return gold.with_statement(at, Malformed(f"It is obvious that {step.name} is {value}{end}"))


def decimal_value(gold: Gold, rng: random.Random) -> Rows:
    """A decimal that would be the right number if it were cut: 2.9 for 2."""

    def change(at: int) -> Chain | None:
        *links, value = gold.step(at).chain
        return (*links, f"{value}.{rng.randint(1, 9)}") if isinstance(value, int) else None

    if gold.exercise.style.form == "steps" and rng.random() < 0.3:
        decimal = f"{gold.exercise.answer}.{rng.randint(1, 9)}"
        said = gold.exercise.grammar.answer.format(value=decimal)
        return gold.with_statement(len(gold.statements) - 1, Malformed(said))
    return gold.with_chain_at_any(gold.steps, rng, change)


def scaled_value(gold: Gold, rng: random.Random) -> Rows:
    """The right number with words behind it that make another one of it: "33 thousand", "33 minus one"."""

    def scaled(value: int) -> str:
        return f"{value} {rng.choice(_SHIFTS if value < 2 else (*_SHIFTS, *_SCALES))}"

    if gold.exercise.style.form == "steps" and rng.random() < 0.5:
        said = gold.exercise.grammar.answer.format(value=scaled(gold.exercise.answer))
        return gold.with_statement(len(gold.statements) - 1, Malformed(said))

    def change(at: int) -> Chain | None:
        *links, value = gold.step(at).chain
        return (*links, scaled(value)) if isinstance(value, int) else None

    return gold.with_chain_at_any(gold.steps, rng, change)


_SHIFTS = ("and a half", "minus one", "plus two", "or thirty")
_SCALES = ("thousand", "hundred", "dozen", "percent", "squared", "万")
"""Words that change every number, and those that change every number above 1."""


def contradiction(gold: Gold, rng: random.Random) -> Rows:
    """`so M = 9 + 24 = 40; so M = 33`: a wrong value, and the right one without a reason."""
    so = "; so" if gold.exercise.grammar.has_variables else " so"

    def change(at: int) -> Chain | None:
        step = gold.step(at)
        *links, value = step.chain
        if not isinstance(value, int):
            return None
        return (*links, f"{gold.other(value, rng)}{so} {step.variable} = {value}")

    return gold.with_chain_at_any(gold.steps, rng, change)


def carried_slip(gold: Gold, rng: random.Random) -> Rows:
    """One slip of arithmetic, carried consistently through all later steps to the answer."""
    if gold.is_reverse:
        return None  # a slip in a form gives an equation without a whole solution, as a rule
    name = gold.step(rng.choice(gold.steps)).name
    return _carried(gold, {name: gold.other(gold.exercise.value_of[name], rng)})


def exchanged_constants(gold: Gold, rng: random.Random) -> Rows:
    """Two numbers of the text in each other's place, carried through all later steps; the answer is right by luck."""
    if gold.is_reverse:
        return None
    constants = {name for name in gold.exercise.needed_names if gold.operation(name) is Operation.CONSTANT}
    for at in rng.sample(gold.calculations, len(gold.calculations)):
        operands = [str(gold.name_of[used]) for used in names_in(gold.step(at).chain[0])]
        used = [name for name in operands if name in constants]
        if len(used) > 1:
            one, other = rng.sample(used, 2)
            slips = {one: gold.exercise.value_of[other], other: gold.exercise.value_of[one]}
            rows = _carried(gold, slips) if slips[one] != slips[other] else None
            if rows is not None and rows[-1] == gold.statements[-1]:
                return rows
    return None


def _carried(gold: Gold, slips: Mapping[str, int]) -> Rows:
    """All steps computed again with other values for some; None if a division then leaves a remainder."""
    values: dict[str, Expression] = {}
    rows: list[Statement] = []
    for statement in gold.statements[:-1]:
        if not isinstance(statement, Step):
            rows.append(statement)
            continue
        put_in = substitute(statement.chain[0], values)
        value = number_of(put_in, gold.modulus)
        if value is None:
            return None
        value = slips.get(statement.name, value)
        links = (put_in,) if put_in != statement.chain[0] and put_in != value else ()
        first = () if isinstance(statement.chain[0], int) else statement.chain[:1]
        values[statement.variable] = value
        rows.append(replace(statement, chain=(*first, *links, value)))
    answer = values[str(gold.variable_of[gold.exercise.asked_name])]
    assert isinstance(answer, int)
    return [*rows, Answer(answer)]
