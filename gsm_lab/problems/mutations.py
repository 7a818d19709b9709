"""Gold solutions with one thing made wrong, class by class: what a grader must catch, however much it forgives.

Every mutation changes the meaning: where a change could be harmless, as an operand replaced by a copy of it is, another
place is taken, or none.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.graph import Operation
from gsm_lab.problems.rewriting import Chain, Gold, first_terms, invented_name, parts_of, text_of
from gsm_lab.problems.trace import (
    LETTERS,
    VARIABLES,
    Answer,
    Binary,
    Check,
    Expression,
    Given,
    Malformed,
    Plan,
    Retract,
    Solve,
    Statement,
    Step,
    Unknown,
    linear_of,
    names_in,
    number_of,
    substitute,
    write_expression,
)

Rows = list[Statement] | None
Mutation = Callable[[Gold, random.Random], Rows]


# ------------------------------------------------------------------------------------ definitions


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
    return gold.is_reverse and set(names_in(new)) == {gold.letter} and _is_equal(new, old, gold)


def _resigned(expression: Expression, rng: random.Random) -> Expression | None:
    """The expression with one other sign."""
    parts = list(parts_of(expression))
    if not parts:
        return None
    part, put = rng.choice(parts)
    return put(replace(part, sign=rng.choice([sign for sign in "+-*/" if sign != part.sign])))


def wrong_operator(gold: Gold, rng: random.Random) -> Rows:
    """Another sign in a definition."""
    return _redefine(gold, rng, lambda at, definition: _resigned(definition, rng))


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
        new = _unused_variable(gold, rng) if gold.exercise.grammar.has_variables else invented_name(gold, rng)
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
        return put(replace(part, left=part.right, right=part.left))

    return _redefine(gold, rng, change)


def lost_brackets(gold: Gold, rng: random.Random) -> Rows:
    """`2 * a + b` for `2 * ( a + b )`, in a definition or in a later link."""
    return _redefine(gold, rng, lambda at, definition: _unbracketed(definition)) or _changed_link(
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


def _renumbered(expression: Expression, gold: Gold, rng: random.Random) -> Expression | None:
    """The expression with its first number changed, or None if it has none."""
    if isinstance(expression, int):
        return gold.other(expression, rng)
    if not isinstance(expression, Binary):
        return None
    left = _renumbered(expression.left, gold, rng)
    if left is not None:
        return replace(expression, left=left)
    right = _renumbered(expression.right, gold, rng)
    return None if right is None else replace(expression, right=right)


def wrong_constant(gold: Gold, rng: random.Random) -> Rows:
    """Another constant in a definition."""
    return _redefine(gold, rng, lambda at, definition: _renumbered(definition, gold, rng))


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


# ------------------------------------------------------------------------------------ numbers


def wrong_value(gold: Gold, rng: random.Random) -> Rows:
    """Another value at the end of a step's chain; the steps that use it, and the answer, stay right."""

    def change(at: int) -> Chain | None:
        *links, last = gold.step(at).chain
        changed = _renumbered(last, gold, rng)
        return None if changed is None else (*links, changed)

    return gold.with_chain_at_any(gold.steps, rng, change)


def _changed_link(gold: Gold, rng: random.Random, change: Callable[[Expression], Expression | None]) -> Rows:
    """Another link inside a step's chain, of another value; those around it stay right."""

    def changed(at: int) -> Chain | None:
        chain = gold.step(at).chain
        inside = range(1, len(chain) - 1)
        for link in rng.sample(inside, len(inside)):
            new = change(chain[link])
            if new is not None and not _is_equal(new, chain[link], gold):
                return (*chain[:link], new, *chain[link + 1 :])
        return None

    return gold.with_chain_at_any(gold.steps, rng, changed)


def _is_equal(one: Expression, other: Expression, gold: Gold) -> bool:
    """Whether two links have the same value, or the same form in the unknown."""
    if gold.is_reverse:
        return linear_of(one, gold.forms) == linear_of(other, gold.forms)
    return number_of(one, gold.modulus) == number_of(other, gold.modulus)


def false_equality(gold: Gold, rng: random.Random) -> Rows:
    """A wrong number inside a step's chain, its value right again."""
    return _changed_link(gold, rng, lambda link: _renumbered(link, gold, rng))


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
        return replace(expression, left=left, right=right)
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
        return replace(expression, left=changed)
    return None if (changed := _shifted(right)) is None else replace(expression, right=changed)


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


# ------------------------------------------------------------------------------------ order and presence


def missing_step(gold: Gold, rng: random.Random) -> Rows:
    """A needed step left out, though not that of a mere copy."""
    return gold.with_statement(rng.choice(gold.sources)) if gold.sources else None


def taken_back(gold: Gold, rng: random.Random) -> Rows:
    """A right step taken back and not done again."""
    if not gold.sources:
        return None
    at = rng.choice(gold.sources)
    return gold.with_statement(at, gold.statements[at], Retract())


def used_before_defined(gold: Gold, rng: random.Random) -> Rows:
    """A step moved behind the one that uses it."""
    place = {gold.step(at).variable: at for at in gold.steps}
    pairs = [(place[name], at) for at in gold.steps for name in names_in(gold.step(at).chain[0]) if name in place]
    if not pairs:
        return None
    early, late = rng.choice(pairs)
    rows = gold.statements
    return [*rows[:early], *rows[early + 1 : late + 1], rows[early], *rows[late + 1 :]]


def redefined(gold: Gold, rng: random.Random) -> Rows:
    """A step told twice: first with a wrong value, then right."""
    choices = [at for at in gold.steps if isinstance(gold.step(at).chain[-1], int)]
    if not choices:
        return None
    at = rng.choice(choices)
    *links, value = gold.step(at).chain
    assert isinstance(value, int)
    wrong = replace(gold.step(at), chain=(*links, gold.other(value, rng)))
    return gold.with_statement(at, wrong, gold.statements[at])


def wrong_name(gold: Gold, rng: random.Random) -> Rows:
    """Two steps of different values with each other's names, or a step that names one letter and computes another."""
    if not gold.steps:
        return None
    at = rng.choice(gold.steps)
    step, values = gold.step(at), gold.exercise.value_of
    others = [other for other in gold.steps if values[gold.step(other).name] != values[step.name]]
    if not others:
        return None
    other = rng.choice(others)
    if gold.exercise.grammar.has_variables and rng.random() < 0.5:
        letter, text = step.variable, text_of(step, gold.exercise.grammar)
        place = text.rindex(f"{letter} = {write_expression(step.chain[0])}")
        swapped = letter.swapcase() if letter.swapcase() in gold.name_of else gold.step(other).variable
        return gold.with_statement(at, Malformed(text[:place] + swapped + text[place + len(letter) :]))
    rows = gold.with_statement(at, replace(step, name=gold.step(other).name))
    rows[other] = replace(gold.step(other), name=step.name)
    return rows


def wrong_plan(gold: Gold, rng: random.Random) -> Rows:
    """A plan that unfolds a quantity wrongly, though it is computed rightly afterwards."""
    plans = [(at, one) for at, one in enumerate(gold.statements) if isinstance(one, Plan)]
    for at, plan in rng.sample(plans, len(plans)):
        changed = _resigned(plan.expression, rng) or _renumbered(plan.expression, gold, rng)
        in_variables = None if changed is None else substitute(changed, gold.variable_of)
        if changed is not None and in_variables is not None and not gold.means(in_variables, plan.name):
            return gold.with_statement(at, replace(plan, expression=changed))
    return None


def _unused_variable(gold: Gold, rng: random.Random) -> str:
    used = set(gold.name_of)
    return rng.choice([letter for letter in LETTERS if letter not in used] or [VARIABLES[len(used) + 1]])


def _behind_steps(gold: Gold, statement: Statement) -> Rows:
    """A statement put in after the last step."""
    if not gold.steps:
        return None
    return gold.with_statement(gold.steps[-1], gold.statements[gold.steps[-1]], statement)


def _variable(gold: Gold, name: str, rng: random.Random) -> str:
    return _unused_variable(gold, rng) if gold.exercise.grammar.has_variables else name


def hallucinated_step(gold: Gold, rng: random.Random) -> Rows:
    """A step about a quantity that the problem lacks, which nothing uses."""
    name = invented_name(gold, rng)
    known = [variable for variable, value in gold.values.items() if not gold.is_open(variable)]
    if name is None:
        return None
    chain: Chain | None = (rng.randint(1, 9),)
    if known and rng.random() < 0.5:
        chain = gold.explain(Binary("+", rng.randint(1, 9), rng.choice(known)))
    return None if chain is None else _behind_steps(gold, Step(name, _variable(gold, name, rng), chain))


def mislabelled_helper(gold: Gold, rng: random.Random) -> Rows:
    """Two terms of a sum added in a step about a quantity that the problem lacks, or about the sum of two others."""
    for at in rng.sample(gold.calculations, len(gold.calculations)):
        step = gold.step(at)
        terms = first_terms(step.chain[0])
        first = None if terms is None else gold.explain(terms[0])
        name = invented_name(gold, rng)
        others = [str(gold.name_of[one]) for one in gold.before(at) if one not in names_in(step.chain[0])]
        if gold.exercise.grammar.has_variables and len(others) > 1 and rng.random() < 0.5:
            label: str | None = "sum of {} and {}".format(*rng.sample(others, 2))
        else:
            label = name
        if terms is None or first is None or label is None:
            continue
        letter = _variable(gold, label, rng)
        second = gold.explain(terms[1](letter), {letter: first[-1]})
        if second is not None:
            return gold.with_statement(at, Step(label, letter, first), replace(step, chain=second))
    return None


def false_extra(gold: Gold, rng: random.Random) -> Rows:
    """A step of a quantity that is not needed, with a wrong value."""
    extra = extra_step_of(gold, rng)
    if extra is None:
        return None
    *links, value = extra.chain
    assert isinstance(value, int)
    return _behind_steps(gold, replace(extra, chain=(*links, gold.other(value, rng))))


def extra_step_of(gold: Gold, rng: random.Random) -> Step | None:
    """A true step of a quantity that is not needed and rests on known numbers alone, or None."""
    exercise = gold.exercise
    nodes, names = exercise.problem.graph.nodes, exercise.names
    needed = set(exercise.problem.needed)
    closed = {place for place in needed if not gold.is_open(gold.variable_of.get(names[place], 0))}
    choices = [place for place, node in enumerate(nodes) if place not in needed and closed.issuperset(node.parents)]
    if not choices:
        return None
    name = names[rng.choice(choices)]
    chain = gold.explain(substitute(exercise.definition_of[name], gold.variable_of))
    return None if chain is None else Step(name, _variable(gold, name, rng), chain)


def false_unknown(gold: Gold, rng: random.Random) -> Rows:
    """A quantity called unknown that the text defines, or that it does not speak of."""
    exercise = gold.exercise
    others = sorted(set(exercise.names) - set(exercise.needed_names))
    name = rng.choice(others) if others else invented_name(gold, rng)
    return None if name is None else _behind_steps(gold, Unknown(name, _variable(gold, name, rng)))


def false_check(gold: Gold, rng: random.Random) -> Rows:
    """A check that is false."""
    left, right = rng.randint(0, 99), rng.randint(0, 99)
    value = gold.other(left + right, rng)
    if gold.modulus is not None:
        left, right = left % gold.modulus, right % gold.modulus
    return _behind_steps(gold, Check((Binary("+", left, right), value)))


# ------------------------------------------------------------------------------------ answers


def wrong_answer(gold: Gold, rng: random.Random) -> Rows:
    """All steps right, and the value of something else given as the answer."""
    others = sorted(set(gold.exercise.value_of.values()) - {gold.exercise.answer})
    value = rng.choice(others) if others else gold.other(gold.exercise.answer, rng)
    return [*gold.statements[:-1], Answer(value)]


def answer_first(gold: Gold, rng: random.Random) -> Rows:
    """The right answer before the first step, the right work after it."""
    return [gold.statements[-1], *gold.statements[:-1]]


def answer_alone(gold: Gold, rng: random.Random) -> Rows:
    """The right answer without any work."""
    return [gold.statements[-1]]


def second_answer(gold: Gold, rng: random.Random) -> Rows:
    """The right answer, and another one after it."""
    return [*gold.statements, Answer(gold.other(gold.exercise.answer, rng))]


def changed_answer(gold: Gold, rng: random.Random) -> Rows:
    """A wrong answer, and the right one after it."""
    return [*gold.statements[:-1], Answer(gold.other(gold.exercise.answer, rng)), gold.statements[-1]]


# ------------------------------------------------------------------------------------ equations


def _change_given(gold: Gold, change: Callable[[Given], Given]) -> Rows:
    for at, one in enumerate(gold.statements):
        if isinstance(one, Given):
            return gold.with_statement(at, change(one))
    return None


def wrong_equation(gold: Gold, rng: random.Random) -> Rows:
    """Another left side set equal to the given value; the right solution after it."""

    def change(given: Given) -> Given:
        left = _renumbered(given.chain[0], gold, rng) or Binary("+", given.chain[0], 1)
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
    changed = _renumbered(solve.chain[link], gold, rng) or Binary("*", rng.randint(2, 99), solve.chain[link])
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


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        wrong_operator,
        wrong_operand,
        undefined_operand,
        missing_operand,
        extra_operand,
        swapped_operands,
        lost_brackets,
        circular,
        wrong_constant,
        no_operator,
        wrong_value,
        false_equality,
        false_link,
        nonsense_numbers,
        false_grouping,
        bare_value,
        obvious,
        decimal_value,
        contradiction,
        scaled_value,
        carried_slip,
        exchanged_constants,
        missing_step,
        taken_back,
        used_before_defined,
        redefined,
        wrong_name,
        wrong_plan,
        hallucinated_step,
        mislabelled_helper,
        false_extra,
        false_unknown,
        false_check,
        wrong_answer,
        answer_first,
        answer_alone,
        second_answer,
        changed_answer,
        wrong_equation,
        wrong_given,
        wrong_solving,
        wrong_left_side,
        wrong_form,
        no_equation,
    )
}


def mutate(exercise: Exercise, kind: str, rng: random.Random) -> str | None:
    """The gold solution with one mutation of that kind, or None if it has no place for one.

    Steps that the gold solution takes back, and its checks, are left out first.
    """
    gold = Gold.of(exercise)
    changed = None if gold is None else MUTATIONS[kind](gold, rng)
    return None if gold is None or changed is None else gold.write(changed)
