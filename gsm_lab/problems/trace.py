"""The grammar of solutions: statements, chains of equalities, and expressions, written and read here alone.

A solution is a row of statements. A plan says how a quantity is defined, a step computes it through a chain of
equalities, an answer ends it:

    plan    We look for brown otters at Ivy Lane Petting Zoo, which is 2 + adult lions at Ashgrove Zoo.
    step    Define adult lions at Ashgrove Zoo as k; so k = 3.
    step    Define brown otters at Ivy Lane Petting Zoo as B; so B = 2 + k = 2 + 3 = 5.
    answer  Answer: 5.

The patterns come from a frames file. Reading is linear in the text, builds small trees and evaluates nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from gsm_lab.errors import TemplateError

MOST_CHARACTERS = 50_000
MOST_DIGITS = 12
MOST_DEPTH = 20
MOST_OPERANDS = 64
"""An expression with more operands is not read: trees stay small, and so does the time to compare them."""
_SIGNS = re.compile(r"([()+*\-])")
_SLOTS = {"plan": {"n", "expression"}, "step": {"n", "chain"}, "answer": {"value"}}


@dataclass(frozen=True)
class Binary:
    """Two expressions joined by `+`, `-` or `*`."""

    sign: str
    left: "Expression"
    right: "Expression"


Expression = int | str | Binary
"""A number, a name, or two expressions joined."""


@dataclass(frozen=True)
class Plan:
    """How a quantity is defined, in names."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Step:
    """A quantity computed: `variable = chain[0] = chain[1] = ...`."""

    name: str
    variable: str
    chain: tuple[Expression, ...]


@dataclass(frozen=True)
class Answer:
    """The last word; None where it is not a whole number."""

    value: int | None


@dataclass(frozen=True)
class Malformed:
    """A statement that follows none of the patterns."""

    text: str


Statement = Plan | Step | Answer | Malformed


@dataclass(frozen=True)
class TraceGrammar:
    """The patterns of statements, as a frames file gives them.

    Raises:
        TemplateError: a pattern lacks one of its slots.
    """

    plan: str
    step: str
    answer: str
    statement_end: str

    def __post_init__(self) -> None:
        for kind, slots in _SLOTS.items():
            pattern = getattr(self, kind)
            missing = sorted(slot for slot in slots if "{" + slot + "}" not in pattern)
            if missing:
                raise TemplateError(f"trace.{kind} = {pattern!r} lacks the slots {missing}: write them in braces.")

    @property
    def has_variables(self) -> bool:
        """Whether a step gives its quantity a letter; otherwise the name serves as the variable."""
        return "{v}" in self.step


def write_trace(statements: Iterable[Statement], grammar: TraceGrammar) -> str:
    """The statements in words, with one space between them."""
    return " ".join(_write_statement(statement, grammar) for statement in statements)


def _write_statement(statement: Statement, grammar: TraceGrammar) -> str:
    match statement:
        case Plan(name, expression):
            return grammar.plan.format(n=name, expression=write_expression(expression))
        case Step(name, variable, chain):
            return grammar.step.format(n=name, v=variable, chain=" = ".join(map(write_expression, chain)))
        case Answer(value):
            return grammar.answer.format(value=value)
        case Malformed(text):
            return text


def write_expression(expression: Expression) -> str:
    """An expression with every sign and bracket between spaces, and no more brackets than it needs."""
    if not isinstance(expression, Binary):
        return str(expression)
    left, right = write_expression(expression.left), write_expression(expression.right)
    if expression.sign == "*" and _is_sum(expression.left):
        left = f"( {left} )"
    if _is_sum(expression.right) or (expression.sign == "*" and isinstance(expression.right, Binary)):
        right = f"( {right} )"
    return f"{left} {expression.sign} {right}"


def _is_sum(expression: Expression) -> bool:
    return isinstance(expression, Binary) and expression.sign in "+-"


def read_trace(text: str, grammar: TraceGrammar) -> list[Statement] | None:
    """The statements of a text of any kind, or None if it is too long to be a solution."""
    if len(text) > MOST_CHARACTERS:
        return None
    ends = _statement_ends(grammar.statement_end)
    pieces = (" ".join(piece.split()) for piece in ends.split(text))
    return [_read_statement(piece, grammar) for piece in pieces if piece]


@lru_cache(maxsize=64)
def _statement_ends(mark: str) -> re.Pattern[str]:
    return re.compile(re.escape(mark) + r"(?=\s|$)")


@lru_cache(maxsize=64)
def _patterns(grammar: TraceGrammar) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Regular expressions of plan, step and answer, without the mark that ends them."""
    name = r"(?P<n>[^=<>:;]{1,200}?)"
    slots = {
        "{n}": name,
        "{expression}": r"(?P<expression>[^=<>:;]{1,2000})",
        "{chain}": r"(?P<chain>[^<>:;]{1,4000})",
        "{value}": r"(?P<value>.{1,100})",
    }

    def compiled(pattern: str) -> re.Pattern[str]:
        body = " ".join(pattern.removesuffix(grammar.statement_end).split())
        parts = re.split(r"(\{\w+\})", body)
        seen_variable = False
        result = ""
        for part in parts:
            if part == "{v}":
                result += "(?P=v)" if seen_variable else r"(?P<v>[A-Za-z]\w{0,30})"
                seen_variable = True
            else:
                result += slots.get(part, re.escape(part))
        return re.compile(result, re.ASCII)

    return compiled(grammar.plan), compiled(grammar.step), compiled(grammar.answer)


def _read_statement(text: str, grammar: TraceGrammar) -> Statement:
    plan, step, answer = _patterns(grammar)
    if found := answer.fullmatch(text):
        return Answer(_read_whole(found["value"].strip()))
    if found := plan.fullmatch(text):  # before steps: a plan may be a step's pattern with a word before it
        expression = read_expression(found["expression"])
        if expression is not None:
            return Plan(found["n"].strip(), expression)
    elif found := step.fullmatch(text):
        chain = [read_expression(part) for part in found["chain"].split("=")]
        name = found["n"].strip()
        if all(part is not None for part in chain):
            variable = found["v"] if grammar.has_variables else name
            return Step(name, variable, tuple(part for part in chain if part is not None))
    return Malformed(text)


def read_expression(text: str) -> Expression | None:
    """The tree of `2 * ( k + B )`, or None if the text is not an expression. Names may have several words."""
    tokens = [token for piece in _SIGNS.split(text) if (token := piece.strip())]
    if not tokens or sum(token not in "()+-*" for token in tokens) > MOST_OPERANDS:
        return None
    value, end = _read_sum(tokens, 0, 0)
    return value if end == len(tokens) else None


def _read_sum(tokens: list[str], at: int, depth: int) -> tuple[Expression | None, int]:
    value, at = _read_product(tokens, at, depth)
    while value is not None and at < len(tokens) and tokens[at] in "+-":
        right, end = _read_product(tokens, at + 1, depth)
        value = None if right is None else Binary(tokens[at], value, right)
        at = end
    return value, at


def _read_product(tokens: list[str], at: int, depth: int) -> tuple[Expression | None, int]:
    value, at = _read_operand(tokens, at, depth)
    while value is not None and at < len(tokens) and tokens[at] == "*":
        right, end = _read_operand(tokens, at + 1, depth)
        value = None if right is None else Binary("*", value, right)
        at = end
    return value, at


def _read_operand(tokens: list[str], at: int, depth: int) -> tuple[Expression | None, int]:
    if at >= len(tokens) or depth > MOST_DEPTH:
        return None, at
    token = tokens[at]
    if token == "(":
        value, at = _read_sum(tokens, at + 1, depth + 1)
        return (value, at + 1) if at < len(tokens) and tokens[at] == ")" else (None, at)
    if token in ")+-*":
        return None, at
    if token[0] in "0123456789":
        return _read_whole(token), at + 1
    return token, at + 1


def _read_whole(token: str) -> int | None:
    """A whole number as people write it: ASCII digits, no sign, no zeros in front."""
    plain = token.isascii() and token.isdigit() and len(token) <= MOST_DIGITS
    return int(token) if plain and (token == "0" or token[0] != "0") else None


def names_in(expression: Expression) -> list[str]:
    """The names in an expression, from left to right."""
    found: list[str] = []
    waiting = [expression]
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
    """The value of an expression of numbers, or None if it has a name in it."""
    if isinstance(expression, Binary):
        left, right = number_of(expression.left, modulus), number_of(expression.right, modulus)
        return None if left is None or right is None else combine(expression.sign, left, right, modulus)
    return expression if isinstance(expression, int) else None


def combine(sign: str, left: int, right: int, modulus: int | None) -> int:
    """`left sign right`, counted modulo `modulus` if there is one."""
    result = left + right if sign == "+" else left - right if sign == "-" else left * right
    return result if modulus is None else result % modulus


def reduced(expression: Expression, modulus: int | None) -> Expression:
    """The expression of numbers with its first calculation done: `3 + 4 + 5` gives `7 + 5`."""
    if not isinstance(expression, Binary):
        return expression
    if isinstance(expression.left, int) and isinstance(expression.right, int):
        return combine(expression.sign, expression.left, expression.right, modulus)
    if isinstance(expression.left, Binary):
        return Binary(expression.sign, reduced(expression.left, modulus), expression.right)
    return Binary(expression.sign, expression.left, reduced(expression.right, modulus))
