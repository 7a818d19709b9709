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
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

from gsm_lab.errors import TemplateError
from gsm_lab.problems.graph import Linear
from gsm_lab.problems.phrase import Phrase, phrase_of

FORMS = ("steps", "answer_only", "think")
"""What a completion is: statements; the answer alone; or statements and an answer in tags."""
THINK, END_THINK, ANSWER, END_ANSWER = "<think>", "</think>", "<answer>", "</answer>"
MOST_CHARACTERS = 100_000
MOST_DIGITS = 12
MOST_DEPTH = 10
MOST_OPERANDS = 64
"""An expression with more operands is not read: trees stay small, and so does the time to compare them."""
LETTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
VARIABLES = LETTERS + tuple(f"{letter}{digit}" for digit in range(1, 10) for letter in LETTERS)
"""What a solution may call a quantity: a letter, or past 52 quantities a letter with a digit."""
_SIGNS = re.compile(r"([()+*/\-])")
_SLOTS: Mapping[str, tuple[str, ...]] = {
    "plan": ("n", "expression"),
    "step": ("n", "chain"),
    "unknown": ("n",),
    "given": ("n", "value", "equation"),
    "solve": ("equation",),
    "check": ("equation",),
    "retract": (),
    "answer": ("value",),
}
"""The slots that every pattern has; steps and unknowns may have `v` besides."""


@dataclass(frozen=True)
class Binary:
    """Two expressions joined by `+`, `-`, `*` or `/`."""

    sign: str
    left: "Expression"
    right: "Expression"


Expression = int | Fraction | str | Binary
"""A number, a name, or two expressions joined; the grammar itself knows whole numbers only."""


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
class Unknown:
    """A quantity named whose value is not known."""

    name: str
    variable: str


@dataclass(frozen=True)
class Given:
    """The value of a quantity recalled, and its form set equal to it: `chain[0] = chain[1] = ...`."""

    name: str
    value: int | None
    chain: tuple[Expression, ...]


@dataclass(frozen=True)
class Solve:
    """An equation solved a little further."""

    chain: tuple[Expression, ...]


@dataclass(frozen=True)
class Check:
    """A calculation done backwards."""

    chain: tuple[Expression, ...]


@dataclass(frozen=True)
class Retract:
    """Takes back the statement before it."""


@dataclass(frozen=True)
class Answer:
    """The last word; None where it is no number."""

    value: int | Fraction | None


@dataclass(frozen=True)
class Malformed:
    """A statement that follows none of the patterns."""

    text: str


@dataclass(frozen=True)
class Prose:
    """Words without numbers or equations; the grammar has none."""

    text: str


Statement = Prose | Plan | Step | Unknown | Given | Solve | Check | Retract | Answer | Malformed


def slots_in(name: str, pattern: str) -> set[str]:
    """The slots of a pattern, which `name` names.

    Raises:
        TemplateError: a brace alone, or a slot with more in it than a name.
    """
    try:
        parts = [(slot, form, change) for _, slot, form, change in string.Formatter().parse(pattern)]
    except ValueError as error:
        raise TemplateError(f"{name} = {pattern!r} is no pattern ({error}): write slots as {{x}}.") from error
    if any(slot is not None and (form or change or not slot.isidentifier()) for slot, form, change in parts):
        raise TemplateError(f"{name} = {pattern!r} has a slot with more in it than a name: write slots as {{x}}.")
    return {slot for slot, _, _ in parts if slot is not None}


@dataclass(frozen=True)
class TraceGrammar:
    """The patterns of statements, as a frames file gives them.

    Raises:
        TemplateError: a pattern lacks one of its slots.
    """

    plan: str
    step: str
    unknown: str
    given: str
    solve: str
    check: str
    retract: str
    answer: str
    statement_end: str
    joiner: str = " "
    """What stands between two statements."""

    def __post_init__(self) -> None:
        for kind, wanted in _SLOTS.items():
            pattern = getattr(self, kind)
            if type(pattern) is not str or not pattern:
                raise TemplateError(f"trace.{kind} = {pattern!r}: write text in quotation marks.")
            slots = slots_in(f"trace.{kind}", pattern)
            if missing := sorted(set(wanted) - slots):
                raise TemplateError(f"trace.{kind} = {pattern!r} lacks the slots {missing}: write them in braces.")
            if extra := sorted(slots - set(wanted) - ({"v"} if kind in ("step", "unknown") else set())):
                raise TemplateError(f"trace.{kind} = {pattern!r} has the slots {extra}, which mean nothing there.")
        if not self.statement_end:
            raise TemplateError("trace.statement_end is empty: give the mark that ends a statement.")

    @property
    def has_variables(self) -> bool:
        """Whether a step gives its quantity a letter; otherwise the name serves as the variable."""
        return "{v}" in self.step

    @cached_property
    def phrases(self) -> Mapping[str, Phrase]:
        """The pattern of every kind of statement, to be filled with its slots as `_SLOTS` lists them, `v` last."""
        return {kind: phrase_of(getattr(self, kind), (*slots, "v")) for kind, slots in _SLOTS.items()}

    @cached_property
    def literal_patterns(self) -> "LiteralPatterns":
        """What reads its steps, plans and unknowns."""
        return _literal_patterns(self)

    def pieces(self, name: str, expression: str, variable: str = "") -> Iterator[str]:
        """Strings that hold every word and mark of statements, in every spacing."""
        v = variable or name
        texts = [
            self.plan.format(n=name, expression=expression),
            self.step.format(n=name, v=v, chain=f"{expression} = {v}"),
            self.unknown.format(n=name, v=v),
            self.given.format(n=name, value="12", equation=f"{expression} = {v}"),
            self.solve.format(equation=f"{v} = {expression}"),
            self.check.format(equation=f"{expression} = {v}"),
            self.retract,
        ]
        texts += [self.answer.format(value=2 * str(digit)) for digit in range(10)]
        texts += [f"= {2 * str(digit)}" for digit in range(10)]
        for text in texts:
            yield from (text, " " + text)
        yield f" {THINK} a {END_THINK} {ANSWER} 1 {END_ANSWER}"
        yield f"{THINK} {END_THINK} {ANSWER} {END_ANSWER}"


def write_trace(statements: Iterable[Statement], grammar: TraceGrammar) -> str:
    """The statements in words, as a completion: with the joiner before each."""
    return "".join(grammar.joiner + _write_statement(statement, grammar) for statement in statements)


def _write_statement(statement: Statement, grammar: TraceGrammar) -> str:
    match statement:
        case Plan(name, expression):
            return grammar.plan.format(n=name, expression=write_expression(expression))
        case Step(name, variable, chain):
            return grammar.step.format(n=name, v=variable, chain=_write_chain(chain))
        case Unknown(name, variable):
            return grammar.unknown.format(n=name, v=variable)
        case Given(name, value, chain):
            return grammar.given.format(n=name, value=value, equation=_write_chain(chain))
        case Solve(chain):
            return grammar.solve.format(equation=_write_chain(chain))
        case Check(chain):
            return grammar.check.format(equation=_write_chain(chain))
        case Retract():
            return grammar.retract
        case Answer(value):
            return grammar.answer.format(value=value)
        case Malformed(text) | Prose(text):
            return text


def _write_chain(chain: Iterable[Expression]) -> str:
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
    pieces = (" ".join(piece.split()) for piece in ends.split(text))
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


@lru_cache(maxsize=64)
def statement_ends(mark: str) -> re.Pattern[str]:
    """The mark that ends a statement; a mark of ASCII only before a space, so that it may stand within a number."""
    return re.compile(re.escape(mark) + (r"(?=\s|$)" if mark.isascii() else ""))


@dataclass(frozen=True)
class _Reader:
    """One kind of statement: the words it begins with, and its regular expression."""

    kind: str
    head: str
    pattern: re.Pattern[str]


@lru_cache(maxsize=64)
def _readers(grammar: TraceGrammar) -> tuple[_Reader, ...]:
    """The kinds of statements in the order in which they are tried, without the mark that ends them.

    A step comes last: where it has few words of its own, most statements look like one.
    """
    slots = {
        "{n}": r"(?P<n>[^=<>:;?]{1,200}?)",
        "{expression}": r"(?P<expression>[^=<>:;?]{1,2000})",
        "{chain}": r"(?P<chain>[^<>:;?]{1,4000})",
        "{equation}": r"(?P<equation>[^<>:;?]{1,4000})",
    }

    def compiled(kind: str) -> _Reader:
        body = " ".join(getattr(grammar, kind).removesuffix(grammar.statement_end).split())
        slots["{value}"] = r"(?P<value>.{1,100})" if kind == "answer" else r"(?P<value>[0-9]{1,20})"
        parts = re.split(r"(\{\w+\})", body)
        seen_variable = False
        result = ""
        for part in parts:
            if part == "{v}":
                result += "(?P=v)" if seen_variable else r"(?P<v>[A-Za-z]\w{0,30})"
                seen_variable = True
            else:
                result += slots.get(part, re.escape(part))
        return _Reader(kind, parts[0], re.compile(result, re.ASCII))

    return tuple(map(compiled, ("answer", "retract", "plan", "unknown", "given", "solve", "check", "step")))


@dataclass(frozen=True)
class LiteralPatterns:
    """What a step, a plan and an unknown look like, read as fast as can be; all of a chain is one group."""

    step: re.Pattern[str]
    plan: re.Pattern[str]
    unknown: re.Pattern[str]


@lru_cache(maxsize=64)
def _literal_patterns(grammar: TraceGrammar) -> LiteralPatterns:
    patterns = {reader.kind: reader.pattern for reader in _readers(grammar)}
    return LiteralPatterns(patterns["step"], patterns["plan"], patterns["unknown"])


def read_statement(text: str, grammar: TraceGrammar) -> Statement:
    """One statement, its spaces single and the mark that ends it taken off."""
    for reader in _readers(grammar):
        if text.startswith(reader.head) and (found := reader.pattern.fullmatch(text)):
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
    tokens = [token for piece in _SIGNS.split(text) if (token := piece.strip())]
    if not tokens or sum(token not in "()+-*/" for token in tokens) > MOST_OPERANDS:
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


def statement_from(kind: str, slots: Mapping[str, str | None], operand: Operand = read_operand) -> Statement | None:
    """The statement of that kind with these texts in its slots, or None if an expression or a number in it is none."""
    name = (slots.get("n") or "").strip()
    variable = slots.get("v") or name
    parts = (slots.get("chain") or slots.get("equation") or "").split("=")
    chain = tuple([part for text in parts if (part := read_expression(text, operand)) is not None])
    is_read = len(chain) == len(parts)
    if kind == "step":
        return Step(name, variable, chain) if is_read else None
    if kind == "plan":
        expression = read_expression(slots["expression"] or "", operand)
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
