"""Gold solutions taken apart and put together again: what mutations and equivalences have in common."""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gsm_lab.problems.algebra import written
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.grammar import ANSWER, END_ANSWER, END_THINK, THINK, TraceGrammar
from gsm_lab.problems.graph import Linear, Operation
from gsm_lab.problems.statements import Answer, Binary, Check, Expression, Plan, Retract, Statement, Step, Unknown
from gsm_lab.problems.trace import combine, linear_of, names_in, read_trace, substitute, write_trace

Chain = tuple[Expression, ...]
_PRIME = 2**61 - 1
MOST_OPERANDS = 60


@dataclass(frozen=True)
class Gold:
    """A gold solution, statement by statement, with what its letters mean."""

    exercise: Exercise
    statements: tuple[Statement, ...]

    @staticmethod
    def of(exercise: Exercise) -> "Gold | None":
        """The gold solution without its checks and without what it takes back; None if it is an answer alone."""
        if exercise.style.form == "answer_only":
            return None
        written = read_trace(exercise.completion, exercise.grammar, exercise.style.form)
        assert written is not None
        statements: list[Statement] = []
        for statement in written:
            if isinstance(statement, Retract):
                statements.pop()
            elif not isinstance(statement, Check):
                statements.append(statement)
        return Gold(exercise, tuple(statements))

    @property
    def is_reverse(self) -> bool:
        return self.exercise.problem.given is not None

    @property
    def modulus(self) -> int | None:
        return self.exercise.problem.modulus

    @cached_property
    def steps(self) -> list[int]:
        """Where the steps are."""
        return [at for at, statement in enumerate(self.statements) if isinstance(statement, Step)]

    @cached_property
    def calculations(self) -> list[int]:
        """Where the steps are that calculate: neither constants nor copies."""
        return [at for at in self.steps if isinstance(self.step(at).chain[0], Binary)]

    @cached_property
    def sources(self) -> list[int]:
        """Where the steps are that are no copies."""
        copies = {name for name in self.exercise.needed_names if self.operation(name) is Operation.COPY}
        return [at for at in self.steps if self.step(at).name not in copies]

    def step(self, at: int) -> Step:
        statement = self.statements[at]
        assert isinstance(statement, Step)
        return statement

    def operation(self, name: str) -> Operation:
        return self.exercise.problem.graph.nodes[self.exercise.quantity_of[name]].operation

    @cached_property
    def name_of(self) -> Mapping[str, Expression]:
        """Which quantity a variable stands for."""
        return {one.variable: one.name for one in self.statements if isinstance(one, Step | Unknown)}

    @cached_property
    def variable_of(self) -> Mapping[str, Expression]:
        """Which variable stands for a quantity."""
        return {one.name: one.variable for one in self.statements if isinstance(one, Step | Unknown)}

    @cached_property
    def letter(self) -> str:
        """What stands for the unknown of a reverse problem."""
        return str(self.variable_of[self.exercise.asked_name])

    @cached_property
    def forms(self) -> Mapping[str, Linear]:
        """Every variable in terms of the unknown of a reverse problem."""
        quantity_of, forms = self.exercise.quantity_of, self.exercise.problem.forms
        known = {variable: forms[quantity_of[str(name)]] for variable, name in self.name_of.items()}
        return {variable: form for variable, form in known.items() if form is not None}

    @cached_property
    def values(self) -> Mapping[str, Expression]:
        """The value of every variable."""
        return {variable: self.exercise.value_of[str(name)] for variable, name in self.name_of.items()}

    def before(self, at: int) -> list[str]:
        """The variables that are defined before a statement."""
        return [one.variable for one in self.statements[:at] if isinstance(one, Step | Unknown)]

    def is_open(self, expression: Expression) -> bool:
        """Whether an expression in variables depends on the unknown of a reverse problem."""
        return self.is_reverse and any(name in self.forms and self.forms[name].a for name in names_in(expression))

    @cached_property
    def _colours(self) -> Mapping[str, int]:
        colours: dict[str, int] = {}
        definition_of = self.exercise.definition_of
        for node, name in zip(self.exercise.problem.graph.nodes, self.exercise.names, strict=True):
            digest = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % _PRIME
            known = None if node.operation is Operation.CONSTANT else colour_of(definition_of[name], colours)
            colours[name] = digest if known is None else known
        return colours

    def means(self, expression: Expression, name: str) -> bool:
        """Whether an expression in variables is the definition of a quantity, written out down to the constants.

        Constants that the text states are symbols, so equal numbers do not make equal quantities.
        """
        wanted = colour_of(self.exercise.definition_of[name], self._colours)
        return colour_of(substitute(expression, self.name_of), self._colours) == wanted

    def explain(self, expression: Expression, more: Mapping[str, Expression] | None = None) -> Chain | None:
        """A right chain for an expression in variables; None if it cannot be calculated in numbers from 0 up.

        `more` holds the last links of variables that the gold solution lacks.
        """
        last_links = more or {}
        if not self.is_open(substitute(expression, last_links)):
            return _explained(expression, {**self.values, **last_links}, self.modulus)
        forms = {name: form for name, link in last_links.items() if (form := linear_of(link, self.forms)) is not None}
        return _explained_form(expression, {**self.forms, **forms}, self.letter)

    def other(self, value: int, rng: random.Random) -> int:
        """Another number than `value`, also when counted modulo."""
        modulus = self.modulus
        return (value + rng.randint(1, modulus - 1)) % modulus if modulus else value + rng.randint(1, 9)

    def without_plans(self) -> "Gold":
        return replace(self, statements=tuple(one for one in self.statements if not isinstance(one, Plan)))

    def with_statement(self, at: int, *new: Statement) -> list[Statement]:
        """All statements, with others in place of one."""
        return [*self.statements[:at], *new, *self.statements[at + 1 :]]

    def with_chain(self, at: int, chain: Chain) -> list[Statement]:
        """All statements, with another chain in one of the steps."""
        return self.with_statement(at, replace(self.step(at), chain=chain))

    def with_chain_at_any(
        self, places: Sequence[int], rng: random.Random, change: Callable[[int], Chain | None]
    ) -> list[Statement] | None:
        """All statements, with the chain changed at the first of the places, in random order, that allows it."""
        for at in rng.sample(places, len(places)):
            if (chain := change(at)) is not None:
                return self.with_chain(at, chain)
        return None

    def write(self, statements: Sequence[Statement]) -> str | None:
        """Statements as a completion, or None if its form has no place for them."""
        if self.exercise.style.form != "think":
            return write_trace(statements, self.exercise.grammar)
        *steps, last = statements
        if not isinstance(last, Answer) or any(isinstance(one, Answer) for one in steps):
            return None
        thoughts = write_trace(steps, self.exercise.grammar).removeprefix(self.exercise.grammar.joiner)
        return f" {THINK} {thoughts} {END_THINK} {ANSWER} {last.value} {END_ANSWER}"


def text_of(statement: Statement, grammar: TraceGrammar) -> str:
    """One statement in words."""
    return write_trace([statement], grammar).removeprefix(grammar.joiner)


def colour_of(expression: Expression, colours: Mapping[str, int]) -> int | None:
    """A number that is equal, but for chance, for expressions that are equal by algebra alone.

    It is the value, modulo a great prime, where every name has a random one; None if a name has none.
    """
    if isinstance(expression, str):
        return colours.get(expression)
    if not isinstance(expression, Binary):
        return int(expression) % _PRIME
    left, right = colour_of(expression.left, colours), colour_of(expression.right, colours)
    if left is None or right is None:
        return None
    if expression.sign == "+":
        return (left + right) % _PRIME
    if expression.sign == "-":
        return (left - right) % _PRIME
    if expression.sign == "*":
        return left * right % _PRIME
    return left * pow(right, -1, _PRIME) % _PRIME if right else None


def _explained(expression: Expression, values: Mapping[str, Expression], modulus: int | None) -> Chain | None:
    """Names, numbers put in, then one calculation a link."""
    put_in = substitute(expression, values)
    chain = [expression] if put_in == expression else [expression, put_in]
    while isinstance(chain[-1], Binary):
        reduced = _reduced(chain[-1], modulus)
        if reduced is None or len(chain) > MOST_OPERANDS:
            return None
        chain.append(reduced)
    return tuple(chain)


def _reduced(expression: Binary, modulus: int | None) -> Expression | None:
    """An expression of numbers with its first calculation done; None if that gives no number from 0 up."""
    left, right = expression.left, expression.right
    if isinstance(left, Binary):
        done = _reduced(left, modulus)
        return None if done is None else expression._replace(left=done)
    if isinstance(right, Binary):
        done = _reduced(right, modulus)
        return None if done is None else expression._replace(right=done)
    if not isinstance(left, int) or not isinstance(right, int):
        return None
    value = combine(expression.sign, left, right, modulus)
    return None if value is None or value < 0 else value


def _explained_form(expression: Expression, forms: Mapping[str, Linear], letter: str) -> Chain | None:
    """Names, forms in the unknown put in, and the whole as one form."""
    form = linear_of(expression, forms)
    if form is None or any(forms[name].a < 0 for name in names_in(expression)) or form.a <= 0:
        return None
    put_in = substitute(expression, {name: written(forms[name], letter) for name in names_in(expression)})
    chain = [expression]
    chain += [link for link in (put_in, written(form, letter)) if link != chain[-1]]
    return tuple(dict.fromkeys(chain))


def parts_of(expression: Expression) -> Iterator[tuple[Binary, Callable[[Expression], Expression]]]:
    """Every joined part of an expression, the whole first, with what gives the whole with that part replaced."""
    if not isinstance(expression, Binary):
        return
    yield expression, lambda new: new
    for part, put in parts_of(expression.left):
        yield part, lambda new, put=put: expression._replace(left=put(new))  # type: ignore[misc]
    for part, put in parts_of(expression.right):
        yield part, lambda new, put=put: expression._replace(right=put(new))  # type: ignore[misc]


def first_terms(expression: Expression) -> tuple[Binary, Callable[[Expression], Expression]] | None:
    """The first two terms of a sum of three or more names, or of such a sum in brackets."""
    for part, put in parts_of(expression):
        if part.sign == "+" and isinstance(part.left, str) and isinstance(part.right, str):
            return (part, put) if part is not expression else None
    return None


def invented_name(gold: Gold, rng: random.Random) -> str | None:
    """A name made of parts of two names of the problem that none of its quantities has, or None."""
    names = gold.exercise.names
    for separator in (" at ", "的", "_"):
        parts = [name.split(separator) for name in names if name.count(separator) == 1]
        made = {separator.join((one[0], other[1])) for one in parts for other in parts} - set(names)
        if made:
            return rng.choice(sorted(made))
    return None
