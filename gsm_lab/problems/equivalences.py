"""Gold solutions written otherwise: what a fair teacher accepts, and what the grammar of traces does not have.

Every rewording keeps the meaning. The first half changes the sums, the second half only how they are written down.
"""

import random
import re
from collections.abc import Callable
from dataclasses import replace

from gsm_lab.errors import SpecError
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.grammar import ANSWER, END_ANSWER, END_THINK, LETTERS, THINK, VARIABLES
from gsm_lab.problems.graph import IMPLICIT, Operation
from gsm_lab.problems.mutations.steps import extra_step_of
from gsm_lab.problems.rewriting import MOST_OPERANDS, Chain, Gold, first_terms, parts_of, text_of
from gsm_lab.problems.solution import write_solution
from gsm_lab.problems.statements import Answer, Binary, Expression, Given, Solve, Statement, Step, Unknown
from gsm_lab.problems.trace import names_in, size_of, substitute

Equivalence = Callable[[Gold, random.Random], list[Statement] | str | None]
ENGLISH = ("english", "paraphrase")
"""Frames with English words in their solutions."""


# ------------------------------------------------------------------------------------ other sums


def _reexplain(
    gold: Gold, rng: random.Random, change: Callable[[Expression], Expression | None]
) -> list[Statement] | None:
    """One definition of the same meaning in another shape, with a chain of its own.

    Implicit totals keep their shape: the text tells no order of what they sum.
    """

    def changed(at: int) -> Chain | None:
        step = gold.step(at)
        new = change(step.chain[0])
        is_other = new is not None and new != step.chain[0] and gold.operation(step.name) not in IMPLICIT
        return gold.explain(new) if new is not None and is_other and gold.means(new, step.name) else None

    return gold.with_chain_at_any(gold.calculations, rng, changed)


def commuted(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """Terms or factors in another order."""

    def change(definition: Expression) -> Expression | None:
        choices = [(part, put) for part, put in parts_of(definition) if part.sign in "+*"]
        if not choices:
            return None
        part, put = rng.choice(choices)
        return put(part._replace(left=part.right, right=part.left))

    return _reexplain(gold, rng, change)


def commuted_numbers(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """Numbers put in in another order than their letters."""

    def change(at: int) -> Chain | None:
        chain = gold.step(at).chain
        put_in = chain[1] if len(chain) > 2 else None
        if not isinstance(put_in, Binary) or put_in.sign not in "+*" or put_in.left == put_in.right:
            return None
        return (chain[0], put_in._replace(left=put_in.right, right=put_in.left), *chain[2:])

    return gold.with_chain_at_any(gold.calculations, rng, change)


def reassociated(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """Other brackets in a sum: `a + ( b + c )`."""

    def change(definition: Expression) -> Expression | None:
        for part, put in parts_of(definition):
            left, right = part.left, part.right
            if part.sign in "+-" and isinstance(left, Binary) and left.sign == "+":
                return put(Binary("+", left.left, Binary(part.sign, left.right, right)))
            if part.sign == "+" and isinstance(right, Binary) and right.sign in "+-":
                return put(Binary(right.sign, Binary("+", left, right.left), right.right))
        return None

    return _reexplain(gold, rng, change)


def distributed(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """`2 * a + 2 * b` for `2 * ( a + b )`."""

    def spread(factor: Expression, group: Expression) -> Expression:
        if isinstance(group, Binary) and group.sign in "+-":
            return group._replace(left=spread(factor, group.left), right=spread(factor, group.right))
        return Binary("*", factor, group)

    def change(definition: Expression) -> Expression | None:
        if not isinstance(definition, Binary) or definition.sign != "*" or not isinstance(definition.right, Binary):
            return None
        return spread(definition.left, definition.right)

    return _reexplain(gold, rng, change)


def inlined(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """A step left out, its definition written in place of its quantity in all steps that use it."""
    bare = gold.without_plans()
    top = gold.exercise.needed_names[-1]
    places = [at for at in bare.calculations if bare.step(at).name not in (top, gold.exercise.asked_name)]
    for at in rng.sample(places, len(places)):
        left_out = bare.step(at)
        rows: list[Statement] = []
        for row in bare.statements:
            if isinstance(row, Step) and left_out.variable in names_in(row.chain[0]):
                chain = bare.explain(substitute(row.chain[0], {left_out.variable: left_out.chain[0]}))
                if chain is None or size_of(chain[0]) > MOST_OPERANDS:
                    break
                row = replace(row, chain=chain)
            if row is not left_out:
                rows.append(row)
        else:
            return rows
    return None


def split(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """Two terms of a sum added in a step of their own, about a quantity that is named after them."""
    words = _SUMS.get(gold.exercise.frames)
    if words is None:
        return None
    for at in rng.sample(gold.calculations, len(gold.calculations)):
        step = gold.step(at)
        terms = first_terms(step.chain[0])
        first = None if terms is None else gold.explain(terms[0])
        if terms is None or first is None:
            continue
        pair, put = terms
        letter = rng.choice([one for one in VARIABLES if one not in gold.name_of])
        second = gold.explain(put(letter), {letter: first[-1]})
        if second is not None:
            name = words.format(gold.name_of[str(pair.left)], gold.name_of[str(pair.right)])
            return gold.with_statement(at, Step(name, letter, first), replace(step, chain=second))
    return None


_SUMS = {"english": "sum of {} and {}", "paraphrase": "sum of {} and {}", "chinese": "{}与{}之和"}


def aliased(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """A copy's original used in place of the copy, or the copy in place of the original, once both are defined."""
    copies = [
        (gold.step(at).variable, str(gold.step(at).chain[0]))
        for at in gold.steps
        if gold.operation(gold.step(at).name) is Operation.COPY
    ]
    pairs = [*copies, *((original, copy) for copy, original in copies)]
    choices = [
        (at, old, new)
        for at in gold.calculations
        for old, new in pairs
        if old in names_in(gold.step(at).chain[0]) and new in gold.before(at)
    ]
    if not choices:
        return None
    at, old, new = rng.choice(choices)
    first, *links = gold.step(at).chain
    return gold.with_chain(at, (substitute(first, {old: new}), *links))


def extra_step(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """A true step of a quantity that is not needed."""
    extra = extra_step_of(gold, rng)
    if extra is None or not gold.steps:
        return None
    return gold.with_statement(gold.steps[-1], gold.statements[gold.steps[-1]], extra)


def put_in_at_once(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """`B = 2 + 3 = 5`: numbers put in without the letters before them."""

    def change(at: int) -> Chain | None:
        chain = gold.step(at).chain
        return chain[1:] if len(chain) > 2 and isinstance(chain[1], Binary) else None

    return gold.with_chain_at_any(gold.calculations, rng, change)


def fewer_links(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """`B = 2 + k = 5`: only the first and the last link of a chain."""

    def change(at: int) -> Chain | None:
        chain = gold.step(at).chain
        return (chain[0], chain[-1]) if len(chain) > 2 else None

    return gold.with_chain_at_any(gold.calculations, rng, change)


# ------------------------------------------------------------------------------------ other words


def _renamed(gold: Gold, variable_of: Callable[[str, int], str]) -> list[Statement] | None:
    """Other variables throughout; those of the frames without variables are names, and stay."""
    if not gold.exercise.grammar.has_variables:
        return None
    variables: dict[str, Expression] = {
        old: variable_of(str(name), number) for number, (old, name) in enumerate(gold.name_of.items())
    }
    rows: list[Statement] = []
    for row in gold.statements:
        if isinstance(row, Step):
            chain = tuple(substitute(link, variables) for link in row.chain)
            rows.append(replace(row, variable=str(variables[row.variable]), chain=chain))
        elif isinstance(row, Unknown):
            rows.append(replace(row, variable=str(variables[row.variable])))
        elif isinstance(row, Given | Solve):
            rows.append(replace(row, chain=tuple(substitute(link, variables) for link in row.chain)))
        else:
            rows.append(row)
    return rows


def long_names(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """Variables of several letters."""
    kind = rng.randrange(3)

    def name(quantity: str, number: int) -> str:
        word = re.sub(r"[^a-z]", "", quantity.split(" at ")[0].split(" ")[-1].lower()) or "item"
        return (f"{word}_{LETTERS[number % 26]}{number // 26 or ''}", f"count{number}", f"x_{word}{number}")[kind]

    return _renamed(gold, name)


def _retold(gold: Gold, change: Callable[[Statement, str], str], join: str | None = None) -> str:
    """All statements as they are, each text changed; in tags if the form wants them."""
    grammar = gold.exercise.grammar
    joiner = grammar.joiner if join is None else join
    if gold.exercise.style.form != "think":
        return joiner + joiner.join(change(row, text_of(row, grammar)) for row in gold.statements)
    *steps, last = gold.statements
    assert isinstance(last, Answer)
    inside = joiner.join(change(row, text_of(row, grammar)) for row in steps)
    return f" {THINK} {inside} {END_THINK} {ANSWER} {change(last, str(last.value))} {END_ANSWER}"


def _retold_if_changed(gold: Gold, change: Callable[[Statement, str], str]) -> str | None:
    text = _retold(gold, change)
    return None if text == _retold(gold, lambda _, same: same) else text


def number_of(gold: Gold, rng: random.Random) -> list[Statement] | None:
    """ "Define the number of adult lions ..." """
    if gold.exercise.frames not in ENGLISH:
        return None
    nodes, quantity_of = gold.exercise.problem.graph.nodes, gold.exercise.quantity_of
    rows: list[Statement] = [
        replace(row, name=f"the number of {row.name}")
        if isinstance(row, Step | Unknown) and not _is_special(nodes[quantity_of[row.name]].name)
        else row
        for row in gold.statements
    ]
    return None if rows == [*gold.statements] else rows


def _is_special(quantity: tuple[int, int | None, bool]) -> bool:
    """Whether this is a total or an average, not a count."""
    _, item, each = quantity
    return item is None or each


def units(gold: Gold, rng: random.Random) -> str | None:
    """`= 24 brown otters`: a unit behind a value."""
    if gold.exercise.frames not in ENGLISH:
        return None
    nodes, quantity_of = gold.exercise.problem.graph.nodes, gold.exercise.quantity_of

    def change(row: Statement, text: str) -> str:
        name = row.name if isinstance(row, Step) else gold.exercise.asked_name
        if not isinstance(row, Step | Answer) or _is_special(nodes[quantity_of[name]].name):
            return text
        if isinstance(row, Step) and not isinstance(row.chain[-1], int):
            return text
        return _behind_value(text, f" {name.split(' at ')[0]}")

    return _retold_if_changed(gold, change)


def _behind_value(text: str, more: str) -> str:
    """The text of a statement with something behind its last number."""
    *_, last = re.finditer(r"(?<![A-Za-z0-9_])[0-9]+(?![A-Za-z0-9_])", text)
    return text[: last.end()] + more + text[last.end() :]


def thousands(gold: Gold, rng: random.Random) -> str | None:
    """`1,200` for 1200."""

    def change(row: Statement, text: str) -> str:
        return re.sub(r"(?<![\w.])[1-9][0-9]{3,}(?![\w])", lambda found: f"{int(found.group()):,}", text)

    return _retold_if_changed(gold, change)


def capitals(gold: Gold, rng: random.Random) -> str | None:
    """Names with capitals, small letters at the beginning of a statement; the word for the answer in capitals."""
    exercise = gold.exercise

    def change(row: Statement, text: str) -> str:
        if isinstance(row, Answer):
            return text.upper()
        name = getattr(row, "name", "")
        if exercise.frames in ENGLISH and name:
            text = text.replace(name, " ".join(word[:1].upper() + word[1:] for word in name.split(" ")))
            return text[:1].lower() + text[1:]
        return text

    return _retold_if_changed(gold, change)


def decimal_zero(gold: Gold, rng: random.Random) -> str | None:
    """`6.0` for 6, at the end of a step or as the answer."""
    chosen = rng.sample(range(len(gold.statements)), rng.randint(1, len(gold.statements)))

    def change(row: Statement, text: str) -> str:
        is_chosen = any(row is gold.statements[at] for at in chosen)
        is_number = isinstance(row, Answer) or (isinstance(row, Step) and isinstance(row.chain[-1], int))
        if not is_chosen or not is_number:
            return text
        return _behind_value(text, ".0")

    return _retold_if_changed(gold, change)


def other_signs(gold: Gold, rng: random.Random) -> str | None:
    """The signs of printed books."""
    times = rng.choice("\u00d7\u00b7")

    def change(row: Statement, text: str) -> str:
        return text.replace(" * ", f" {times} ").replace(" / ", " \u00f7 ").replace(" - ", " \u2212 ")

    return _retold_if_changed(gold, change)


def latex_signs(gold: Gold, rng: random.Random) -> str | None:
    r"""`\times` and `\cdot`."""
    times = rng.choice([r"\times", r"\cdot"])
    return _retold_if_changed(gold, lambda row, text: text.replace(" * ", f" {times} "))


def lines(gold: Gold, rng: random.Random) -> str:
    """One statement a line, with a mark or a number in front."""
    kind = rng.choice(["- ", "* ", "• ", "number"])
    numbers = iter(range(1, len(gold.statements) + 1))

    def change(row: Statement, text: str) -> str:
        if isinstance(row, Answer) and gold.exercise.style.form == "think":
            return text
        return f"{next(numbers)}. {text}" if kind == "number" else kind + text

    return _retold(gold, change, "\n")


def implied_product(gold: Gold, rng: random.Random) -> str | None:
    """`2k` and `2 ( k + b )`."""
    letters = [letter for letter in gold.name_of if letter.isalpha() and gold.exercise.grammar.has_variables]
    letter = re.compile(rf"(?<![\w.])(\d+) \* ({'|'.join(letters) or 'none'})(?![\w])")
    gap = rng.choice(["", " "])

    def change(row: Statement, text: str) -> str:
        if not isinstance(row, Step):
            return text
        return re.sub(r"(?<![\w.])(\d+) \* \(", rf"\1{gap}(", letter.sub(r"\1\2", text))

    return _retold_if_changed(gold, change)


def bold_answer(gold: Gold, rng: random.Random) -> str:
    """`Answer: **33**.`"""
    return _said_answer(gold, "**{}**")


def _said_answer(gold: Gold, pattern: str) -> str:
    """The answer's number in a pattern, the rest of the solution as it is."""
    answer, grammar = gold.exercise.answer, gold.exercise.grammar

    def change(row: Statement, text: str) -> str:
        if not isinstance(row, Answer):
            return text
        said = pattern.format(answer)
        return said if gold.exercise.style.form == "think" else grammar.answer.format(value=said)

    return _retold(gold, change)


def answer_boxed(gold: Gold, rng: random.Random) -> str:
    r"""`\boxed{33}`, in the place of the number or alone."""
    if rng.random() < 0.5:
        return _said_answer(gold, r"\boxed{{{}}}")
    return _last_line(gold, r"\boxed{{{}}}")


def answer_hashed(gold: Gold, rng: random.Random) -> str | None:
    """`#### 33` on a line of its own."""
    return None if gold.exercise.style.form == "think" else _last_line(gold, "#### {}")


def answer_is(gold: Gold, rng: random.Random) -> str | None:
    """ "The answer is 33." """
    if gold.exercise.frames not in ENGLISH or gold.exercise.style.form == "think":
        return None
    return _last_line(gold, rng.choice(["The answer is {}.", "The final answer is {}.", "So the answer is {}."]))


def _last_line(gold: Gold, pattern: str) -> str:
    said = pattern.format(gold.exercise.answer)
    is_think = gold.exercise.style.form == "think"
    text = _retold(gold, lambda row, same: ("" if is_think else "\n") + said if isinstance(row, Answer) else same)
    return text if is_think else "\n".join(part.rstrip(" ") for part in text.split("\n"))


EQUIVALENCES: dict[str, Equivalence] = {
    equivalence.__name__: equivalence
    for equivalence in (
        commuted,
        commuted_numbers,
        reassociated,
        distributed,
        inlined,
        split,
        aliased,
        extra_step,
        put_in_at_once,
        fewer_links,
        long_names,
        number_of,
        units,
        thousands,
        capitals,
        decimal_zero,
        other_signs,
        latex_signs,
        lines,
        implied_product,
        bold_answer,
        answer_boxed,
        answer_hashed,
        answer_is,
    )
}


def reword(exercise: Exercise, kind: str, rng: random.Random) -> str | None:
    """The gold solution written otherwise in that way, or None if it has no place for it.

    Steps that the gold solution takes back, and its checks, are left out first.

    Raises:
        SpecError: no such kind.
    """
    if kind not in EQUIVALENCES:
        raise SpecError(f"kind={kind!r}: give one of {', '.join(EQUIVALENCES)}.")
    gold = Gold.of(exercise)
    changed = None if gold is None else EQUIVALENCES[kind](gold, rng)
    return gold.write(changed) if gold is not None and isinstance(changed, list) else changed  # type: ignore[return-value]


def reordered(exercise: Exercise, rng: random.Random) -> str:
    """The gold solution with other letters and its steps in another order: the grammar has it word for word."""
    names, grammar = exercise.names, exercise.grammar
    variables = rng.sample(VARIABLES[: max(len(LETTERS), len(names))], len(names)) if grammar.has_variables else names
    orders = ("random",) if exercise.style.trace_order != "goal_directed" else ("goal_directed", "random")
    style = replace(exercise.style, trace_order=rng.choice(orders))
    return write_solution(exercise.problem, names, variables, grammar, style, rng)
