"""Steps that are missing, misplaced, misnamed, about nothing, or false beside the solution."""

import random
from dataclasses import replace

from gsm_lab.problems.mutations.changes import Rows, renumbered, resigned, unused_variable
from gsm_lab.problems.rewriting import Chain, Gold, first_terms, invented_name, text_of
from gsm_lab.problems.statements import Binary, Check, Malformed, Plan, Retract, Statement, Step, Unknown
from gsm_lab.problems.trace import names_in, substitute, write_expression


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
    letter, text = step.variable, text_of(step, gold.exercise.grammar)
    place = text.rfind(f"{letter} = {write_expression(step.chain[0])}")  # frames of others may have it otherwise
    if gold.exercise.grammar.has_variables and rng.random() < 0.5 and place >= 0:
        swapped = letter.swapcase() if letter.swapcase() in gold.name_of else gold.step(other).variable
        return gold.with_statement(at, Malformed(text[:place] + swapped + text[place + len(letter) :]))
    rows = gold.with_statement(at, replace(step, name=gold.step(other).name))
    rows[other] = replace(gold.step(other), name=step.name)
    return rows


def wrong_plan(gold: Gold, rng: random.Random) -> Rows:
    """A plan that unfolds a quantity wrongly, though it is computed rightly afterwards."""
    plans = [(at, one) for at, one in enumerate(gold.statements) if isinstance(one, Plan)]
    for at, plan in rng.sample(plans, len(plans)):
        changed = resigned(plan.expression, rng) or renumbered(plan.expression, gold, rng)
        in_variables = None if changed is None else substitute(changed, gold.variable_of)
        if changed is not None and in_variables is not None and not gold.means(in_variables, plan.name):
            return gold.with_statement(at, replace(plan, expression=changed))
    return None


def _behind_steps(gold: Gold, statement: Statement) -> Rows:
    """A statement put in after the last step."""
    if not gold.steps:
        return None
    return gold.with_statement(gold.steps[-1], gold.statements[gold.steps[-1]], statement)


def _variable(gold: Gold, name: str, rng: random.Random) -> str:
    return unused_variable(gold, rng) if gold.exercise.grammar.has_variables else name


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
