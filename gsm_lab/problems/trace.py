"""The grammar of solutions: statements, chains of equalities, and expressions, written and read here alone.

A solution is a row of statements. A plan says how a quantity is defined, a step computes it through a chain of
equalities, a check calculates back, "retract" takes the statement before it back, an answer ends it all:

    plan    We look for brown otters at Ivy Lane Petting Zoo, which is 2 + adult lions at Ashgrove Zoo.
    step    Define adult lions at Ashgrove Zoo as k; so k = 3.
    step    Define brown otters at Ivy Lane Petting Zoo as B; so B = 2 + k = 2 + 3 = 5.
    check   Check: 5 - 3 = 2.
    answer  Answer: 5.

In a reverse problem one quantity is unknown; steps are in terms of it, and an equation is solved at the end:

    unknown Define adult lions at Ashgrove Zoo as k; its value is not known yet.
    step    Define brown otters at Ivy Lane Petting Zoo as B; so B = 2 + 3 * k = 3 * k + 2.
    given   We know that brown otters at Ivy Lane Petting Zoo is 14; so 3 * k + 2 = 14.
    solve   Hence 3 * k = 14 - 2 = 12.
    solve   Hence k = 12 / 3 = 4.

The patterns come from a frames file. Reading is linear in the text, builds small trees and evaluates nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from gsm_lab.problems.grammar import ANSWER, END_ANSWER, END_THINK, THINK, TraceGrammar, statement_ends
from gsm_lab.problems.graph import Linear
from gsm_lab.problems.phrase import single_spaced
from gsm_lab.problems.statements import (
    Answer,
    Binary,
    Check,
    Expression,
    Given,
    Malformed,
    Plan,
    Prose,
    Retract,
    Solve,
    Statement,
    Step,
    Unknown,
)

MOST_CHARACTERS = 100_000
MOST_DIGITS = 12
MOST_DEPTH = 10
MOST_OPERANDS = 64
"""An expression with more operands is not read: trees stay small, and so does the time to compare them."""
_SIGNS = re.compile(r"([()+*/\-])")


def write_trace(statements: Iterable[Statement], grammar: TraceGrammar) -> str:
    """The statements in words, as a completion: with the joiner before each."""
    return "".join(grammar.joiner + _write_statement(statement, grammar) for statement in statements)


def _write_statement(statement: Statement, grammar: TraceGrammar) -> str:
    match statement:
        case Plan(name, expression):
            return grammar.plan.format(n=name, expression=write_expression(expression))
        case Step(name, variable, chain):
            return grammar.step.format(n=name, v=variable, chain=write_chain(chain))
        case Unknown(name, variable):
            return grammar.unknown.format(n=name, v=variable)
        case Given(name, value, chain):
            return grammar.given.format(n=name, value=value, equation=write_chain(chain))
        case Solve(chain):
            return grammar.solve.format(equation=write_chain(chain))
        case Check(chain):
            return grammar.check.format(equation=write_chain(chain))
        case Retract():
            return grammar.retract
        case Answer(value):
            return grammar.answer.format(value=value)
        case Malformed(text) | Prose(text):
            return text


def write_chain(chain: Iterable[Expression]) -> str:
    """The links of a chain of equalities, as the grammar writes them."""
    return " = ".join(map(write_expression, chain))


def write_expression(expression: Expression) -> str:
    """An expression with every sign and bracket between spaces, and no more brackets than it needs."""
    if not isinstance(expression, Binary):
        return str(expression)
    left, right = write_expression(expression.left), write_expression(expression.right)
    is_product = expression.sign in "*/"
    if is_product and _is_sum(expression.left):
        left = f"( {left} )"
    if (is_product and isinstance(expression.right, Binary)) or _is_sum(expression.right):
        right = f"( {right} )"
    return f"{left} {expression.sign} {right}"


def _is_sum(expression: Expression) -> bool:
    return isinstance(expression, Binary) and expression.sign in "+-"


def read_trace(text: str, grammar: TraceGrammar, form: str = "steps") -> list[Statement] | None:
    """The statements of a text of any kind, or None if it is too long to be a solution."""
    if len(text) > MOST_CHARACTERS:
        return None
    if form == "think":
        return _read_tags(text, grammar)
    ends = statement_ends(grammar.statement_end)
    pieces = map(single_spaced, ends.split(text))
    return [read_statement(piece, grammar) for piece in pieces if piece]


def _read_tags(text: str, grammar: TraceGrammar) -> list[Statement]:
    """`<think> statements </think> <answer> value </answer>`, each tag once, and nothing outside."""
    tags = (THINK, END_THINK, ANSWER, END_ANSWER)
    places = [text.find(tag) for tag in tags]
    if -1 in places or places != sorted(places) or any(text.count(tag) != 1 for tag in tags):
        return [Malformed(text[:200])]
    outside = text[: places[0]] + text[places[1] + len(END_THINK) : places[2]] + text[places[3] + len(END_ANSWER) :]
    inside = read_trace(text[places[0] + len(THINK) : places[1]], grammar)
    assert inside is not None
    if outside.strip():
        inside.append(Malformed(outside.strip()[:200]))
    return [*inside, Answer(read_whole(text[places[2] + len(ANSWER) : places[3]].strip()))]


def read_statement(text: str, grammar: TraceGrammar) -> Statement:
    """One statement, its spaces single and the mark that ends it taken off."""
    for reader in grammar.readers:
        if not text.startswith(reader.head) or not text.endswith(reader.tail):
            continue
        if found := reader.pattern.fullmatch(text):
            statement = statement_from(reader.kind, found.groupdict())
            if statement is not None:
                return statement
    return Malformed(text)


Operand = Callable[[str], Expression | None]


def read_operand(token: str) -> Expression | None:
    """A whole number or a name; a name may have several words."""
    return read_whole(token) if token[0] in "0123456789" else token


def read_expression(text: str, operand: Operand = read_operand) -> Expression | None:
    """The tree of `2 * ( k + B )`, or None if the text is not an expression; `operand` reads what is between signs."""
    if (plain := text.strip()).isalnum():
        return operand(plain)
    pieces = _SIGNS.split(text)
    tokens = [token for piece in pieces if (token := piece.strip())]
    if len(pieces) == 1:
        return operand(tokens[0]) if tokens else None
    if len(tokens) > MOST_OPERANDS and sum(token not in "()+-*/" for token in tokens) > MOST_OPERANDS:
        return None
    value, end = _read_sum(tokens, 0, 0, operand)
    return value if end == len(tokens) else None


def _read_sum(tokens: list[str], at: int, depth: int, operand: Operand) -> tuple[Expression | None, int]:
    value, at = _read_product(tokens, at, depth, operand)
    while value is not None and at < len(tokens) and tokens[at] in "+-":
        right, end = _read_product(tokens, at + 1, depth, operand)
        value = None if right is None else Binary(tokens[at], value, right)
        at = end
    return value, at


def _read_product(tokens: list[str], at: int, depth: int, operand: Operand) -> tuple[Expression | None, int]:
    value, at = _read_factor(tokens, at, depth, operand)
    while value is not None and at < len(tokens) and tokens[at] in "*/":
        right, end = _read_factor(tokens, at + 1, depth, operand)
        value = None if right is None else Binary(tokens[at], value, right)
        at = end
    return value, at


def _read_factor(tokens: list[str], at: int, depth: int, operand: Operand) -> tuple[Expression | None, int]:
    if at >= len(tokens) or depth > MOST_DEPTH:
        return None, at
    token = tokens[at]
    if token == "(":
        value, at = _read_sum(tokens, at + 1, depth + 1, operand)
        return (value, at + 1) if at < len(tokens) and tokens[at] == ")" else (None, at)
    return (None, at) if token in ")+-*/" else (operand(token), at + 1)


def statement_from(
    kind: str, slots: Mapping[str, str | None], read: Callable[[str], Expression | None] = read_expression
) -> Statement | None:
    """The statement of that kind with these texts in its slots, or None if an expression or a number in it is none.

    `read` gives the tree of an expression. A chain is read from its end, which is where most of the wrong ones break.
    """
    name = (slots.get("n") or "").strip()
    variable = slots.get("v") or name
    links: list[Expression] = []
    parts = (slots.get("chain") or slots.get("equation") or "").split("=")
    for text in reversed(parts):
        link = read(text)
        if link is None:
            break
        links.append(link)
    is_read = len(links) == len(parts)
    chain = tuple(reversed(links))
    if kind == "step":
        return Step(name, variable, chain) if is_read else None
    if kind == "plan":
        expression = read(slots["expression"] or "")
        return None if expression is None else Plan(name, expression)
    if kind == "unknown":
        return Unknown(name, variable)
    if kind == "answer":
        return Answer(read_whole((slots["value"] or "").strip()))
    if kind == "retract":
        return Retract()
    if not is_read or len(chain) < 2:
        return None
    if kind == "given":
        return Given(name, read_whole(slots["value"] or ""), chain)
    return Solve(chain) if kind == "solve" else Check(chain)


def read_whole(token: str) -> int | None:
    """A whole number as people write it: ASCII digits, no sign, no zeros in front."""
    plain = token.isascii() and token.isdigit() and len(token) <= MOST_DIGITS
    return int(token) if plain and (token == "0" or token[0] != "0") else None


def names_in(expression: Expression) -> list[str]:
    """The names in an expression, from left to right."""
    if not isinstance(expression, Binary):
        return [expression] if isinstance(expression, str) else []
    found: list[str] = []
    waiting: list[Expression] = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Binary):
            waiting += [part.right, part.left]
        elif isinstance(part, str):
            found.append(part)
    return found


def substitute(expression: Expression, values: Mapping[str, Expression]) -> Expression:
    """The expression with every name replaced by what `values` holds for it; other names stay."""
    if isinstance(expression, Binary):
        return Binary(expression.sign, substitute(expression.left, values), substitute(expression.right, values))
    return values.get(expression, expression) if isinstance(expression, str) else expression


def number_of(expression: Expression, modulus: int | None) -> int | None:
    """The value of an expression of numbers; None if it has a name in it, or divides with a remainder."""
    if isinstance(expression, Binary):
        left, right = number_of(expression.left, modulus), number_of(expression.right, modulus)
        return None if left is None or right is None else combine(expression.sign, left, right, modulus)
    return expression if isinstance(expression, int) else None


def combine(sign: str, left: int, right: int, modulus: int | None) -> int | None:
    """`left sign right`, counted modulo `modulus` if there is one; None for a division with a remainder."""
    if sign == "/":
        return left // right if modulus is None and right and not left % right else None
    result = left + right if sign == "+" else left - right if sign == "-" else left * right
    return result if modulus is None else result % modulus


def linear_of(expression: Expression, forms: Mapping[str, Linear]) -> Linear | None:
    """The expression as a * x + b, given the forms of the names in it; None if it is no such thing."""
    if isinstance(expression, int):
        return Linear(0, expression)
    if isinstance(expression, str):
        return forms.get(expression)
    if isinstance(expression, Fraction):
        return None
    left, right = linear_of(expression.left, forms), linear_of(expression.right, forms)
    if left is None or right is None:
        return None
    if expression.sign == "+":
        return Linear(left.a + right.a, left.b + right.b)
    if expression.sign == "-":
        return Linear(left.a - right.a, left.b - right.b)
    if expression.sign == "*":
        if left.a and right.a:
            return None
        return Linear(left.a * right.b + right.a * left.b, left.b * right.b)
    if right.a or not right.b or left.a % right.b or left.b % right.b:
        return None
    return Linear(left.a // right.b, left.b // right.b)


def size_of(expression: Expression) -> int:
    """How many operands an expression has."""
    size = 0
    waiting = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Binary):
            waiting += (part.right, part.left)
        else:
            size += 1
    return size
