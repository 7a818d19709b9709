"""Gold solutions: what a careful solver would write, in a chosen order and form."""

from collections.abc import Sequence
from functools import reduce
from random import Random
from typing import Final

from gsm_lab.problems.grammar import ANSWER, END_ANSWER, END_THINK, THINK, TraceGrammar
from gsm_lab.problems.graph import Linear, Node, Operation
from gsm_lab.problems.measures import linear_forms
from gsm_lab.problems.phrase import fill
from gsm_lab.problems.problem import Problem
from gsm_lab.problems.statements import Binary, Expression
from gsm_lab.problems.style import Style
from gsm_lab.problems.trace import write_expression

_CONSTANT: Final = Operation.CONSTANT
_COPY: Final = Operation.COPY
_PLUS: Final = Operation.PLUS
_MINUS: Final = Operation.MINUS
_TIMES: Final = Operation.TIMES
_DIVIDED: Final = Operation.DIVIDED
_NESTED: Final = Operation.NESTED_TOTAL


def expression_of(node: Node, names: Sequence[str]) -> Expression:
    """The definition of a quantity, given the names of all quantities of the graph."""
    parents: list[Expression] = [names[parent] for parent in node.parents]
    if node.operation is Operation.NESTED_TOTAL:
        return _joined("+", [Binary("*", parents[at], parents[at + 1]) for at in range(0, len(parents), 2)])
    if not parents:
        assert node.constant is not None
        return node.constant
    added = len(parents) - node.minus
    group = reduce(lambda left, right: Binary("-", left, right), parents[added:], _joined("+", parents[:added]))
    if node.constant is None:
        return group
    if node.operation is Operation.PLUS:
        return Binary("+", node.constant, group)
    if node.operation is Operation.TIMES:
        return Binary("*", node.constant, group)
    return Binary("-" if node.operation is Operation.MINUS else "/", group, node.constant)


def _joined(sign: str, terms: Sequence[Expression]) -> Expression:
    return reduce(lambda left, right: Binary(sign, left, right), terms)


def plan_order(problem: Problem) -> list[int]:
    """The needed quantities from the top on, each once all that uses it has been unfolded: a queue by last mention."""
    nodes = problem.graph.nodes
    uses = [0] * len(nodes)
    for place in problem.needed:
        for parent in nodes[place].parents:
            uses[parent] += 1
    queue = [problem.top]
    for place in queue:
        for parent in nodes[place].parents:
            uses[parent] -= 1
            if not uses[parent]:
                queue.append(parent)
    return queue


def random_order(problem: Problem, rng: Random) -> list[int]:
    """The needed quantities in an order of computation, drawn step by step from those that are ready."""
    nodes = problem.graph.nodes
    missing = {place: len(nodes[place].parents) for place in problem.needed}
    users: dict[int, list[int]] = {place: [] for place in problem.needed}
    for place in problem.needed:
        for parent in nodes[place].parents:
            users[parent].append(place)
    ready = [place for place, count in missing.items() if not count]
    order = []
    while ready:
        at = int(rng.random() * len(ready))
        ready[at], ready[-1] = ready[-1], ready[at]
        place = ready.pop()
        order.append(place)
        for user in users[place]:
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    return order


def write_solution(
    problem: Problem,
    names: Sequence[str],
    variables: Sequence[str],
    grammar: TraceGrammar,
    style: Style,
    rng: Random | None = None,
) -> str:
    """A full and correct solution as a completion.

    `names` and `variables` say what it calls every quantity of the graph; those of quantities that are not needed do
    not matter. `rng` decides a random order, checks and recoveries; without it there are none.
    """
    joiner = grammar.joiner
    answer = str(problem.answer)
    phrases = grammar.phrases
    if style.form == "answer_only":
        return joiner + fill(phrases["answer"], (answer,))
    nodes, values = problem.graph.nodes, problem.values
    order: Sequence[int] = problem.needed
    texts: list[str] = []
    unknown = problem.query if problem.given is not None else -1
    if style.trace_order == "goal_directed":
        order = plan_order(problem)
        plan = phrases["plan"]
        texts += [
            fill(plan, (names[place], write_expression(expression_of(nodes[place], names))))
            for place in order
            if place != unknown
        ]
        order = order[::-1]
    elif style.trace_order == "random" and rng is not None:
        order = random_order(problem, rng)
    step = phrases["step"]
    extras = rng if style.checks or style.recovery else None
    if unknown < 0:
        modulus = problem.modulus
        for place in order:
            chain = chain_text(nodes[place], variables, values, modulus)
            if extras is None:
                texts.append(fill(step, (names[place], chain, variables[place])))
            else:
                texts += _with_extras(names[place], variables[place], chain, modulus, grammar, style, extras)
    else:
        forms = linear_forms(nodes[: problem.top + 1], unknown)  # those of distractors would not be needed
        letter = variables[unknown]
        for place in order:
            if place == unknown:
                texts.append(fill(phrases["unknown"], (names[place], letter)))
                continue
            # the unknown may cancel, as in `3 * k - 3 * k + 2`: what counts is whether it is in the parents
            is_open = any(forms[parent].a for parent in nodes[place].parents)  # type: ignore[union-attr]
            if is_open:
                chain = form_chain_text(nodes[place], variables, forms, letter)
            else:
                chain = chain_text(nodes[place], variables, values, None)
            if extras is None or is_open:
                texts.append(fill(step, (names[place], chain, variables[place])))
            else:
                texts += _with_extras(names[place], variables[place], chain, None, grammar, style, extras)
        texts += equation_texts(problem, forms[problem.top], names, letter, grammar)
    if style.form == "think":
        return f" {THINK} {joiner.join(texts)} {END_THINK} {ANSWER} {answer} {END_ANSWER}"
    texts.append(fill(phrases["answer"], (answer,)))
    return joiner + joiner.join(texts)


def chain_text(node: Node, variables: Sequence[str], values: Sequence[int], modulus: int | None) -> str:
    """Symbols, numbers put in, then one calculation at a time: `2 * ( k + B ) = 2 * ( 3 + 4 ) = 2 * 7 = 14`."""
    _, operation, constant, parents, minus = node
    if operation is _CONSTANT:
        return str(constant)
    size = len(parents)
    if size == 1:
        parent = parents[0]
        value = values[parent]
        if operation is _COPY or constant is None:
            return f"{variables[parent]} = {value}"
        if operation is _PLUS:
            result = constant + value if modulus is None else (constant + value) % modulus
            return f"{constant} + {variables[parent]} = {constant} + {value} = {result}"
        if operation is _MINUS:
            result = value - constant if modulus is None else (value - constant) % modulus
            return f"{variables[parent]} - {constant} = {value} - {constant} = {result}"
        if operation is _TIMES:
            result = constant * value if modulus is None else constant * value % modulus
            return f"{constant} * {variables[parent]} = {constant} * {value} = {result}"
        return f"{variables[parent]} / {constant} = {value} / {constant} = {value // constant}"
    if size == 2 and constant is None and operation is not _NESTED:
        one, other = parents
        left, right = values[one], values[other]
        sign = "-" if minus else "+"
        result = left - right if minus else left + right
        if modulus is not None:
            result %= modulus
        return f"{variables[one]} {sign} {variables[other]} = {left} {sign} {right} = {result}"
    if operation is _NESTED:
        return _nested_chain(parents, variables, values, modulus)
    symbols = [variables[parent] for parent in parents]
    numbers = [values[parent] for parent in parents]
    links = [_around(operation, constant, _signed(symbols, minus))]
    signs = ["+"] * (size - minus) + ["-"] * minus
    total = numbers[0]
    for at in range(1, size):
        rest = " ".join([f"{sign} {number}" for sign, number in zip(signs[at:], numbers[at:], strict=True)])
        links.append(_around(operation, constant, f"{total} {rest}"))
        total = total - numbers[at] if signs[at] == "-" else total + numbers[at]
        if modulus is not None:
            total %= modulus
    if constant is not None:
        links.append(_around(operation, constant, str(total), is_number=True))
        total = _result(operation, constant, total)
        if modulus is not None:
            total %= modulus
    links.append(str(total))
    return " = ".join(links)


def definition_text(node: Node, variables: Sequence[str]) -> str:
    """A definition in the given names of quantities, as `write_expression` would write it."""
    _, operation, constant, parents, minus = node
    if operation is _NESTED:
        pairs = [f"{variables[parents[at]]} * {variables[parents[at + 1]]}" for at in range(0, len(parents), 2)]
        return " + ".join(pairs)
    terms = [variables[parent] for parent in parents]
    return _around(operation, constant, _signed(terms, minus), is_number=len(terms) == 1)


def _signed(terms: Sequence[str], minus: int) -> str:
    """`A + B - C`, the last `minus` terms subtracted."""
    added = len(terms) - minus
    return " - ".join([" + ".join(terms[:added]), *terms[added:]])


def _around(operation: Operation, constant: int | None, group: str, is_number: bool = False) -> str:
    """A group of several terms, or their number, with the constant of its definition."""
    if constant is None:
        return group
    if operation is _MINUS:
        return f"{group} - {constant}"
    if not is_number:
        group = f"( {group} )"
    if operation is _DIVIDED:
        return f"{group} / {constant}"
    return f"{constant} + {group}" if operation is _PLUS else f"{constant} * {group}"


def _result(operation: Operation, constant: int, value: int) -> int:
    if operation is _PLUS:
        return constant + value
    if operation is _MINUS:
        return value - constant
    return constant * value if operation is _TIMES else value // constant


def _nested_chain(parents: Sequence[int], variables: Sequence[str], values: Sequence[int], modulus: int | None) -> str:
    """`k * m + B * n = 2 * 3 + 4 * 5 = 6 + 4 * 5 = 6 + 20 = 26`."""

    def reduced(number: int) -> int:
        return number if modulus is None else number % modulus

    pairs = [(parents[at], parents[at + 1]) for at in range(0, len(parents), 2)]
    links = [" + ".join([f"{variables[one]} * {variables[other]}" for one, other in pairs])]
    terms = [f"{values[one]} * {values[other]}" for one, other in pairs]
    products = [reduced(values[one] * values[other]) for one, other in pairs]
    links.append(" + ".join(terms))
    for at, product in enumerate(products):
        terms[at] = str(product)
        links.append(" + ".join(terms))
    total = products[0]
    for at in range(1, len(products)):
        total = reduced(total + products[at])
        links.append(" + ".join([str(total), *terms[at + 1 :]]))
    return " = ".join(links)


def _with_extras(
    name: str, variable: str, chain: str, modulus: int | None, grammar: TraceGrammar, style: Style, rng: Random
) -> list[str]:
    """A step, maybe after a wrong one that is taken back, and maybe before a check."""
    texts = []
    *links, value = chain.split(" = ")
    step = grammar.phrases["step"]
    right = fill(step, (name, chain, variable))
    if rng.random() < style.recovery:
        slip = int(value) + 1 + int(rng.random() * (9 if modulus is None else modulus - 1))
        wrong = slip if modulus is None else slip % modulus
        texts += [fill(step, (name, " = ".join([*links, str(wrong)]), variable)), grammar.retract]
    texts.append(right)
    if rng.random() < style.checks:
        check = last_check(links[-1] if links else "", int(value), modulus)
        if check is not None:
            texts.append(fill(grammar.phrases["check"], (check,)))
    return texts


def last_check(last_link: str, value: int, modulus: int | None) -> str | None:
    """The last calculation done backwards, `7 - 4 = 3` for `3 + 4 = 7`; None where that cannot be."""
    parts = last_link.split(" ")
    if len(parts) != 3:
        return None
    left, sign, right = int(parts[0]), parts[1], int(parts[2])
    if sign == "+":
        return f"{value} - {right} = {left}"
    if sign == "-":
        return f"{value} + {right} = {left}"
    if modulus is not None or (sign == "*" and not right):
        return None
    return f"{value} / {right} = {left}" if sign == "*" else f"{value} * {right} = {left}"


Form = tuple[int, int]
"""a and b of a * x + b: a `Linear` without its class, which is quicker to make."""


def form_text(form: Form, letter: str) -> str:
    """`3 * k + 2`, as short as it can be written; a quantity is never negative, so it never begins with a minus."""
    a, b = form
    if not a:
        return str(b)
    term = letter if abs(a) == 1 else f"{abs(a)} * {letter}"
    if a < 0:
        return f"{b} - {term}"
    return term if not b else f"{term} + {b}" if b > 0 else f"{term} - {-b}"


def form_chain_text(node: Node, variables: Sequence[str], forms: Sequence[Linear | None], letter: str) -> str:
    """The same chain where the unknown is in it: `W + k = 4 * k + 3 + k = 5 * k + 3`."""
    _, operation, constant, parents, minus = node
    known: list[Form] = [form for parent in parents if (form := forms[parent]) is not None]
    if len(known) == 1 and constant is None:
        symbol, text = variables[parents[0]], form_text(known[0], letter)
        return symbol if symbol == text else f"{symbol} = {text}"
    links = [definition_text(node, variables)]
    if operation is _NESTED:
        pairs = list(zip(known[::2], known[1::2], strict=True))
        links.append(" + ".join([f"{_factor(one, letter)} * {_factor(two, letter)}" for one, two in pairs]))
        known = [(a * d + c * b, b * d) for (a, b), (c, d) in pairs]
    a, b = known[0]
    for at in range(1, len(known)):
        links.append(_around(operation, constant, form_text((a, b), letter) + _rest(known, at, minus, letter)))
        c, d = known[at]
        a, b = (a + c, b + d) if at < len(known) - minus else (a - c, b - d)
    if constant is not None:
        links.append(_around_form(operation, constant, (a, b), letter))
        if operation is _PLUS:
            b += constant
        elif operation is _MINUS:
            b -= constant
        elif operation is _TIMES:
            a, b = a * constant, b * constant
        else:
            a, b = a // constant, b // constant
    links.append(form_text((a, b), letter))
    return " = ".join([link for at, link in enumerate(links) if not at or link != links[at - 1]])


def _rest(forms: Sequence[Form], start: int, minus: int, letter: str) -> str:
    """The terms of a sum of forms from number `start` on, each behind its sign."""
    text = ""
    for at in range(start, len(forms)):
        a, b = forms[at]
        term = form_text((a, b), letter)
        if at < len(forms) - minus:
            text += f" + {term}"
        else:
            text += f" - ( {term} )" if a and b else f" - {term}"
    return text


def _factor(form: Form, letter: str) -> str:
    """A form as a factor: in brackets unless it is a letter or a number."""
    text = form_text(form, letter)
    return f"( {text} )" if " " in text else text


def _around_form(operation: Operation, constant: int, form: Form, letter: str) -> str:
    if operation is _PLUS:
        return f"{constant} + {form_text(form, letter)}"
    if operation is _MINUS:
        return f"{form_text(form, letter)} - {constant}"
    if operation is _TIMES:
        return f"{constant} * {_factor(form, letter)}"
    return f"{_factor(form, letter)} / {constant}"


def equation_texts(
    problem: Problem, form: Linear | None, names: Sequence[str], letter: str, grammar: TraceGrammar
) -> list[str]:
    """The given value set equal to its form, and the equation solved: one calculation a statement."""
    assert problem.given is not None
    assert form is not None
    value = problem.values[problem.given]
    a, b = form
    equation = f"{form_text(form, letter)} = {value}"
    solve = grammar.phrases["solve"]
    texts = [fill(grammar.phrases["given"], (names[problem.given], str(value), equation))]
    term = letter if abs(a) == 1 else f"{abs(a)} * {letter}"
    right = value if a > 0 else -value
    if b or a < 0:
        calculation = f"{b} - {value}" if a < 0 else f"{value} - {b}" if b > 0 else f"{value} + {-b}"
        right = b - value if a < 0 else value - b
        texts.append(fill(solve, (f"{term} = {calculation} = {right}",)))
    if abs(a) != 1:
        texts.append(fill(solve, (f"{letter} = {right} / {abs(a)} = {right // abs(a)}",)))
    return texts
