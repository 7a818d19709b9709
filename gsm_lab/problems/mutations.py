"""Gold solutions with one thing made wrong, class by class: what a grader must catch."""

import random
from collections.abc import Callable
from dataclasses import replace

from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.trace import (
    Answer,
    Binary,
    Check,
    Expression,
    Given,
    Plan,
    Retract,
    Solve,
    Statement,
    Step,
    names_in,
    number_of,
    read_trace,
    substitute,
    write_trace,
)

Mutation = Callable[[Exercise, list[Statement], random.Random], list[Statement] | None]


def _steps(statements: list[Statement]) -> list[int]:
    return [at for at, statement in enumerate(statements) if isinstance(statement, Step)]


def _with_step(statements: list[Statement], at: int, chain: tuple[Expression, ...]) -> list[Statement]:
    step = statements[at]
    assert isinstance(step, Step)
    return [*statements[:at], replace(step, chain=chain), *statements[at + 1 :]]


def _other(value: int, exercise: Exercise, rng: random.Random) -> int:
    """Another number than `value`, also when counted modulo."""
    modulus = exercise.problem.modulus
    return (value + rng.randint(1, modulus - 1)) % modulus if modulus else value + rng.randint(1, 9)


def _resigned(expression: Expression, rng: random.Random) -> Expression | None:
    if not isinstance(expression, Binary):
        return None
    return replace(expression, sign=rng.choice([sign for sign in "+-*/" if sign != expression.sign]))


def wrong_operator(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """Another sign in a definition; all numbers after it stay right."""
    choices = [at for at in _steps(statements) if isinstance(statements[at].chain[0], Binary)]  # type: ignore[union-attr]
    if not choices:
        return None
    at = rng.choice(choices)
    step = statements[at]
    assert isinstance(step, Step)
    changed = _resigned(step.chain[0], rng)
    assert changed is not None
    return _with_step(statements, at, (changed, *step.chain[1:]))


def wrong_operand(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """Another quantity in a definition, one that is known already; all numbers stay right."""
    choices = []
    known: list[str] = []
    for at in _steps(statements):
        step = statements[at]
        assert isinstance(step, Step)
        used = names_in(step.chain[0])
        others = [name for name in known if name not in used]
        if used and others:
            choices.append((at, rng.choice(used), rng.choice(others)))
        known.append(step.variable)
    if not choices:
        return None
    at, old, new = rng.choice(choices)
    step = statements[at]
    assert isinstance(step, Step)
    return _with_step(statements, at, (substitute(step.chain[0], {old: new}), *step.chain[1:]))


def _renumbered(expression: Expression, exercise: Exercise, rng: random.Random) -> Expression | None:
    """The expression with its first number changed, or None if it has none."""
    if isinstance(expression, int):
        return _other(expression, exercise, rng)
    if not isinstance(expression, Binary):
        return None
    left = _renumbered(expression.left, exercise, rng)
    if left is not None:
        return replace(expression, left=left)
    right = _renumbered(expression.right, exercise, rng)
    return None if right is None else replace(expression, right=right)


def _renumber_link(
    exercise: Exercise, statements: list[Statement], rng: random.Random, links: Callable[[Step], range]
) -> list[Statement] | None:
    choices = []
    for at in _steps(statements):
        step = statements[at]
        assert isinstance(step, Step)
        for link in links(step):
            changed = _renumbered(step.chain[link], exercise, rng)
            if changed is not None:
                choices.append((at, (*step.chain[:link], changed, *step.chain[link + 1 :])))
    return _with_step(statements, *rng.choice(choices)) if choices else None


def wrong_constant(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """Another constant in a definition; all numbers after it stay right."""
    return _renumber_link(exercise, statements, rng, lambda step: range(1 if len(step.chain) > 1 else 0))


def wrong_value(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """Another value at the end of a step's chain; the steps that use it, and the answer, stay right."""
    return _renumber_link(exercise, statements, rng, lambda step: range(len(step.chain) - 1, len(step.chain)))


def false_equality(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """A wrong number inside a step's chain, its value right again."""
    return _renumber_link(exercise, statements, rng, lambda step: range(1, len(step.chain) - 1))


def _shifted(expression: Expression) -> Expression | None:
    """The expression with one taken from a term of a sum and given to the other, or None if no sum allows it."""
    if not isinstance(expression, Binary):
        return None
    left, right = expression.left, expression.right
    if expression.sign == "+" and isinstance(left, int) and isinstance(right, int) and right > 0 and left + 1 != right:
        return Binary("+", left + 1, right - 1)
    if (changed := _shifted(left)) is not None:
        return replace(expression, left=changed)
    return None if (changed := _shifted(right)) is None else replace(expression, right=changed)


def false_grouping(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """A link between with other terms of the same sum: `3 + 6 = 4 + 5 = 9`; every equality holds."""
    choices = []
    for at in _steps(statements):
        step = statements[at]
        assert isinstance(step, Step)
        if len(step.chain) > 2 and (shifted := _shifted(step.chain[1])) is not None:
            choices.append((at, (*step.chain[:2], shifted, *step.chain[2:])))
    return _with_step(statements, *rng.choice(choices)) if choices else None


def missing_step(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """A needed step left out."""
    if not _steps(statements):
        return None
    at = rng.choice(_steps(statements))
    return [*statements[:at], *statements[at + 1 :]]


def used_before_defined(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """A step moved behind the one that uses it."""
    choices = []
    for late in _steps(statements):
        step = statements[late]
        assert isinstance(step, Step)
        used = names_in(step.chain[0])
        choices += [
            (early, late)
            for early in _steps(statements)
            if (first := statements[early]) and isinstance(first, Step) and first.variable in used
        ]
    if not choices:
        return None
    early, late = rng.choice(choices)
    return [*statements[:early], *statements[early + 1 : late + 1], statements[early], *statements[late + 1 :]]


def redefined(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """A step told twice: first with a wrong value, then right."""
    choices = [at for at in _steps(statements) if isinstance(statements[at].chain[-1], int)]  # type: ignore[union-attr]
    if not choices:
        return None
    at = rng.choice(choices)
    step = statements[at]
    assert isinstance(step, Step)
    value = step.chain[-1]
    assert isinstance(value, int)
    first = replace(step, chain=(*step.chain[:-1], _other(value, exercise, rng)))
    return [*statements[:at], first, *statements[at:]]


def wrong_answer(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """All steps right, and the value of something else given as the answer."""
    others = sorted(set(exercise.value_of.values()) - {exercise.answer})
    value = rng.choice(others) if others else _other(exercise.answer, exercise, rng)
    return [*statements[:-1], Answer(value)]


def answer_first(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """The right answer before the first step, the right work after it."""
    return [statements[-1], *statements[:-1]]


def carried_slip(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """One slip of arithmetic, carried consistently through all later steps to the answer."""
    modulus = exercise.problem.modulus
    if exercise.problem.given is not None:
        return None  # a slip in a form gives an equation without a whole solution, as a rule
    slip = rng.choice(_steps(statements))
    values: dict[str, Expression] = {}
    result: list[Statement] = []
    for at, statement in enumerate(statements):
        if isinstance(statement, Step):
            put_in = substitute(statement.chain[0], values)
            value = number_of(put_in, modulus)
            if value is None:
                return None  # the slip would leave a division with a remainder
            if at == slip:
                value = _other(value, exercise, rng)
            links = (put_in,) if put_in != statement.chain[0] and put_in != value else ()
            values[statement.variable] = value
            result.append(replace(statement, chain=(statement.chain[0], *links, value)))
        elif isinstance(statement, Answer):
            last = result[-1]
            assert isinstance(last, Step)
            final = last.chain[-1]
            assert isinstance(final, int)
            result.append(Answer(final))
        else:
            result.append(statement)
    return result


def wrong_plan(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """A plan that unfolds a quantity wrongly, though it is computed rightly afterwards."""
    plans = [at for at, statement in enumerate(statements) if isinstance(statement, Plan)]
    choices = []
    for at in plans:
        plan = statements[at]
        assert isinstance(plan, Plan)
        changed = _resigned(plan.expression, rng) or _renumbered(plan.expression, exercise, rng)
        if changed is not None:
            choices.append((at, replace(plan, expression=changed)))
    if not choices:
        return None
    at, changed_plan = rng.choice(choices)
    return [*statements[:at], changed_plan, *statements[at + 1 :]]


def wrong_equation(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """Another left side set equal to the given value; the right solution after it."""
    for at, statement in enumerate(statements):
        if isinstance(statement, Given):
            changed = _renumbered(statement.chain[0], exercise, rng) or Binary("+", statement.chain[0], 1)
            given = replace(statement, chain=(changed, *statement.chain[1:]))
            return [*statements[:at], given, *statements[at + 1 :]]
    return None


def wrong_solving(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """A wrong number on the way from the equation to the unknown; the right answer after it."""
    choices = [at for at, statement in enumerate(statements) if isinstance(statement, Solve)]
    if not choices:
        return None
    at = rng.choice(choices)
    solve = statements[at]
    assert isinstance(solve, Solve)
    link = rng.randrange(1, len(solve.chain))
    changed = _renumbered(solve.chain[link], exercise, rng)
    assert changed is not None
    chain = (*solve.chain[:link], changed, *solve.chain[link + 1 :])
    return [*statements[:at], Solve(chain), *statements[at + 1 :]]


def no_equation(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """The equation of a reverse problem left out, with all of its solution."""
    if not any(isinstance(statement, Given) for statement in statements):
        return None
    return [statement for statement in statements if not isinstance(statement, Given | Solve)]


def taken_back(exercise: Exercise, statements: list[Statement], rng: random.Random) -> list[Statement] | None:
    """A right step taken back and not done again."""
    if not _steps(statements):
        return None
    at = rng.choice(_steps(statements))
    return [*statements[: at + 1], Retract(), *statements[at + 1 :]]


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        wrong_operator,
        wrong_operand,
        wrong_constant,
        wrong_value,
        false_equality,
        false_grouping,
        missing_step,
        used_before_defined,
        redefined,
        wrong_answer,
        answer_first,
        carried_slip,
        wrong_plan,
        wrong_equation,
        wrong_solving,
        no_equation,
        taken_back,
    )
}


def mutate(exercise: Exercise, kind: str, rng: random.Random) -> str | None:
    """The gold solution with one mutation of that kind, or None if it has no place for one.

    Steps that the gold solution takes back, and its checks, are left out first.
    """
    if exercise.style.form != "steps":
        return None
    written = read_trace(exercise.completion, exercise.grammar)
    assert written is not None
    statements: list[Statement] = []
    for statement in written:
        if isinstance(statement, Retract):
            statements.pop()
        elif not isinstance(statement, Check):
            statements.append(statement)
    changed = MUTATIONS[kind](exercise, statements, rng)
    return None if changed is None else write_trace(changed, exercise.grammar)
