"""Reads problems that GSM-Infinite wrote: their text into our graph, so that our instrument can grade answers to them.

Source of the format: GSM-Infinite, arXiv:2502.05252, its flat problems ("medium"); averages ("hard") are refused as
sentences of no known pattern. Text and question alone make the graph; of the solution, only its answer is read. An
exercise made of it has the grammar of our English frames, whose steps read as theirs: "Define X as v; so v = 3."
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple

from gsm_lab.errors import DataError
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.grammar import VARIABLES
from gsm_lab.problems.graph import IMPLICIT, DependencyGraph, Linear, Node, Operation, Quantity
from gsm_lab.problems.measures import linear_form
from gsm_lab.problems.problem import Problem
from gsm_lab.problems.solution import write_solution
from gsm_lab.problems.style import Style
from gsm_lab.problems.template import load_template


@dataclass(frozen=True)
class ForeignProblem:
    """A problem of another generator, with what its own file says of it."""

    id: int | str
    op: int
    """As the file states it."""
    mode: str
    """"forward" or "reverse"."""
    template: str
    prompt: str
    solution: str
    """The file's own."""
    stated_answer: int
    """The last answer in the file's own solution; `problem.answer` is what the text says."""
    names: tuple[str, ...]
    """How its solutions call each quantity of the graph, in the graph's order; empty without a problem."""
    sentences: tuple[int, ...]
    """The quantities of the graph that the text defines, in the order of its sentences."""
    problem: Problem | None
    """None if the text does not settle the answer."""
    reason: str | None
    """Why there is no problem."""
    dropped: tuple[str, ...]
    """Distractors left out, for no graph of ours has such: they are undefined, circular, contradictory or negative, or
    rest on one that is. The answer does not depend on them."""

    def exercise(self) -> Exercise:
        """What grading needs; its gold solution is ours, written from the graph.

        Raises:
            DataError: there is no problem, or one of more quantities than there are letters.
        """
        if self.problem is None:
            raise DataError(f"problem {self.id} cannot be graded: {self.reason}. Leave it out.")
        if len(self.problem.needed) > len(VARIABLES):
            raise DataError(
                f"problem {self.id} needs {len(self.problem.needed)} quantities, and solutions have {len(VARIABLES)} "
                f"letters for them: leave it out."
            )
        grammar, style = load_template(frames=_FRAMES).grammar, Style()
        letters = [""] * len(self.names)
        for letter, place in zip(VARIABLES, self.problem.needed, strict=False):
            letters[place] = letter
        return Exercise(
            problem=self.problem,
            context=self.template,
            frames=_FRAMES,
            style=style,
            names=self.names,
            sentences=self.sentences,
            grammar=grammar,
            prompt=self.prompt,
            completion=write_solution(self.problem, self.names, letters, grammar, style),
        )


class _Definition(NamedTuple):
    """What a sentence says of a quantity; its parents are the short names of others."""

    operation: Operation
    constant: int | None = None
    parents: tuple[str, ...] = ()
    minus: int = 0

    @property
    def is_number(self) -> bool:
        return self.operation is Operation.CONSTANT and self.constant is not None


_EXISTS = _Definition(Operation.CONSTANT)  # what a reverse problem says of the asked constant
_Stated = Mapping[str, list[_Definition]]
"""The different things that a text says of each quantity, in order of mention; an implicit total is one of them."""

_FIELDS: dict[str, type | UnionType] = {
    "id": int | str,
    "op": int,
    **dict.fromkeys(("mode", "template", "problem", "question", "solution"), str),
}
_MODES = {"forward": "forward", "normalforward": "forward", "reverse": "reverse", "forwardreverse": "reverse"}
_FRAMES = "english"
_TOTAL = "total number of "
_SHORT = r"(?:(?! in ).)+ in (?:(?! in ).)+"  # item, place
_NAME = re.compile(rf"the (?:number of (?P<item>{_SHORT})|(?P<total>{_TOTAL}{_SHORT}))")
_FACT_END = re.compile(r"\.\s+(?=The )")
_EXISTENCE = "exists, and its number is greater than 0"
_FACT = re.compile(rf"The (?P<name>.+?) (?:equals (?P<definition>.+)|{_EXISTENCE})")
_NUMBER = re.compile(r"[0-9]{1,18}")
_GROUP = re.compile(
    rf"(?:(?P<constant>{_NUMBER.pattern}) (?P<verb>plus|times) )?"
    r"(?P<kind>the sum of |the difference between |)(?P<list>the .+)"
)
_LIST = re.compile(r"(?:,? and |, )(?=the )")
_VERBS = {"plus": Operation.PLUS, "times": Operation.TIMES}
_KINDS = {  # operation without a constant, subtracted parents, fewest and most parents
    "": (Operation.COPY, 0, 1, 1),
    "the sum of ": (Operation.SUM, 0, 2, 1_000),
    "the difference between ": (Operation.DIFFERENCE, 1, 2, 2),
}
_HOW_MANY = re.compile(r"How many (?P<item>.+) does (?P<place>.+) have\?")
_WHAT_IS = re.compile(r"What is (?P<name>the .+)\?")
_ANSWER = re.compile(r"Answer: (-?[0-9]{1,18})\b")


def read_gsm_infinite(path: Path) -> Iterator[ForeignProblem]:
    """The problems of a JSON Lines file, one by one.

    Raises:
        DataError: a line is no problem of GSM-Infinite.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield parse_gsm_infinite(_row(line))
            except DataError as error:
                raise DataError(f"{path}, line {number}: {error}") from error


def parse_gsm_infinite(row: Mapping[str, Any]) -> ForeignProblem:
    """The problem of one row, its answer solved from its text; without a problem if the text does not settle it.

    Raises:
        DataError: a field is missing or of the wrong kind, or a sentence matches no known pattern.
    """
    _check_fields(row)
    asked = _read_question(row["question"].strip())
    stated = _read_text(row["problem"].strip(), asked)
    mode = "reverse" if _EXISTS in stated[asked] else "forward"
    if _MODES[row["mode"]] != mode:
        raise DataError(
            f'mode={row["mode"]!r}, but its text is {mode}: a problem is reverse if "{_EXISTENCE}" is said of what it '
            f"asks for, {asked}. Correct the mode or leave the problem out."
        )
    stated_answer = int(_ANSWER.findall(row["solution"])[-1])
    problem: Problem | None
    names: tuple[str, ...]
    reason = None
    try:
        problem, names = _solve(stated, asked)
        if row["problem"].count(_EXISTENCE) > 1 and problem.answer != stated_answer:
            raise _UnsettledError(
                f"the text says {problem.answer}, its solution {stated_answer}: a sentence was lost where another copy "
                f'of "{asked} {_EXISTENCE}" stands'
            )
    except _UnsettledError as unsettled:
        problem, names, reason = None, (), str(unsettled)
    return ForeignProblem(
        id=row["id"],
        op=row["op"],
        mode=mode,
        template=row["template"],
        prompt=f"{row['problem'].strip()} {row['question'].strip()}",
        solution=row["solution"],
        stated_answer=stated_answer,
        names=names,
        sentences=() if problem is None else _sentences(row["problem"].strip(), problem, names),
        problem=problem,
        reason=reason,
        dropped=() if problem is None else tuple(name for name in stated if name not in names),
    )


def _row(line: bytes) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"no JSON ({error}): give one JSON object a line.") from error
    if not isinstance(row, dict):
        raise DataError(f"a JSON {type(row).__name__}: give one JSON object a line, with the fields {list(_FIELDS)}.")
    return row


def _check_fields(row: Mapping[str, Any]) -> None:
    wrong = [key for key, wanted in _FIELDS.items() if not isinstance(row.get(key), wanted)]
    if wrong:
        raise DataError(
            f"its fields {wrong} are missing or of another type: op is a whole number, id one or a text, the others of "
            f"{list(_FIELDS)} are texts. Complete the problem or leave it out."
        )
    if row["mode"] not in _MODES:
        raise DataError(f"mode={row['mode']!r}: one of {list(_MODES)} is wanted. Correct it or leave the problem out.")
    if not _ANSWER.search(row["solution"]):
        raise DataError('its solution has no "Answer: N.", with which all solutions end. Leave the problem out.')


def _read_question(question: str) -> str:
    """The short name of the asked quantity."""
    how_many, what_is = _HOW_MANY.fullmatch(question), _WHAT_IS.fullmatch(question)
    if how_many:
        return _short_name(f"the number of {how_many['item']} in {how_many['place']}", question)
    if what_is:
        return _short_name(what_is["name"], question)
    raise _unknown_pattern(question)


def _short_name(text: str, sentence: str) -> str:
    """How solutions call a quantity: "adult wolf in Maple Creek", "total number of adult animals in Maple Creek"."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise _unknown_pattern(sentence)
    return match["item"] or match["total"]


def _unknown_pattern(sentence: str) -> DataError:
    return DataError(
        f'the sentence "{sentence}" matches no pattern of flat ("medium") problems: leave this problem out, or teach '
        f"gsm_lab.problems.gsm_infinite the pattern."
    )


def _read_text(text: str, asked: str) -> _Stated:
    stated: dict[str, list[_Definition]] = {}
    for sentence in _FACT_END.split(text.removesuffix(".")):
        match = _FACT.fullmatch(sentence)
        if match is None:
            raise _unknown_pattern(sentence)
        definition = _read_definition(match["definition"], sentence) if match["definition"] else _EXISTS
        said = stated.setdefault(_short_name(f"the {match['name']}", sentence), [])
        if definition not in said:
            said.append(definition)
        for parent in definition.parents:
            stated.setdefault(parent, [])
    stated.setdefault(asked, [])
    _add_totals(stated)
    return stated


def _sentences(text: str, problem: Problem, names: tuple[str, ...]) -> tuple[int, ...]:
    """The quantities that a text defines, in the order of its sentences; one that tells a total's number does not."""
    place_of = {name: place for place, name in enumerate(names)}
    facts = [match for match in map(_FACT.fullmatch, _FACT_END.split(text.removesuffix("."))) if match]
    told = dict.fromkeys(place_of.get(_short_name(f"the {match['name']}", match[0])) for match in facts)
    nodes = problem.graph.nodes
    return tuple(place for place in told if place is not None and nodes[place].operation not in IMPLICIT)


def _read_definition(text: str, sentence: str) -> _Definition:
    if _NUMBER.fullmatch(text):
        return _Definition(Operation.CONSTANT, int(text))
    match = _GROUP.fullmatch(text)
    if match is None:
        raise _unknown_pattern(sentence)
    operation, minus, fewest, most = _KINDS[match["kind"]]
    parents = tuple(_short_name(name, sentence) for name in _LIST.split(match["list"]))
    if not fewest <= len(parents) <= most or len(set(parents)) < len(parents):
        raise _unknown_pattern(sentence)
    if match["verb"]:
        return _Definition(_VERBS[match["verb"]], int(match["constant"]), parents, minus)
    return _Definition(operation, None, parents, minus)


def _add_totals(stated: _Stated) -> None:
    """Defines each total of which the text tells at most a number: all kinds that it mentions for the place."""
    ids = _identities(stated)
    if len(set(ids.values())) < len(ids):
        raise DataError("a place has two kinds of totals, which no flat problem has: leave this problem out.")
    for name, said in stated.items():
        if ids[name].is_total and all(definition.is_number for definition in said):
            kinds = tuple(kind for kind in stated if ids[kind].place == ids[name].place and kind != name)
            if kinds:
                said.append(_Definition(Operation.TOTAL, None, kinds))


def _identities(names: Iterable[str]) -> dict[str, Quantity]:
    """Places and kinds, numbered in order of mention."""
    places: dict[str, int] = {}
    items: dict[str, int] = {}
    ids = {}
    for name in names:
        item, _, place = name.partition(" in ")
        number = None if name.startswith(_TOTAL) else items.setdefault(item, len(items))
        ids[name] = Quantity(places.setdefault(place, len(places)), number)
    return ids


class _UnsettledError(Exception):
    """The reason why a text does not settle what it asks; never leaves this module."""


class _Reading(NamedTuple):
    """All that a text says, settled as far as it can be."""

    stated: _Stated
    definitions: Mapping[str, _Definition]
    """How to compute each quantity of which the text says but one thing, a told number aside."""
    told: Mapping[str, int]
    """The numbers told of quantities that have a definition, too: each is an equation."""
    forms: Mapping[str, Linear]
    """In an order of computation, all that follows from numbers and from the asked unknown."""

    def missing(self, name: str) -> str:
        """Why a quantity has no form: the first to blame among all that it rests on."""
        waiting, seen = [name], {*self.forms}
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            if at not in self.definitions:
                return f"the text says two different things of {at}" if len(self.stated[at]) > 1 else _never_said(at)
            parents = self.definitions[at].parents
            if all(parent in self.forms for parent in parents):
                return f"the text tells another number of {at} than it implies"
            waiting.extend(reversed(parents))
        return f"the text defines {name} by way of itself"


def _never_said(name: str) -> str:
    if name.startswith(_TOTAL):
        return f"the text never says what the {name} is made of"
    return f"the text never says how many {name} there are"


def _solve(stated: _Stated, asked: str) -> tuple[Problem, tuple[str, ...]]:
    """The problem, and the names of its quantities.

    Raises:
        _UnsettledError: the text does not settle the asked quantity.
    """
    reading = _settle(stated, asked)
    if asked not in reading.forms:
        raise _UnsettledError(reading.missing(asked))
    top, unknown = _equation(reading, asked) if _EXISTS in stated[asked] else (asked, 0)
    places: dict[str, int] = {}
    for name, form in reading.forms.items():
        parents = reading.definitions[name].parents
        if form.a * unknown + form.b >= 0 and all(parent in places for parent in parents):
            places[name] = len(places)
    if top not in places:
        raise _UnsettledError(f"the number of {top.removeprefix(_TOTAL)} rests on one that the text makes negative")
    ids = _identities(stated)
    nodes = []
    for name in places:
        operation, constant, parents, minus = reading.definitions[name]
        constant = unknown if reading.definitions[name] == _EXISTS else constant
        nodes.append(Node(ids[name], operation, constant, tuple(places[parent] for parent in parents), minus))
    given = None if top == asked else places[top]
    return Problem(DependencyGraph(tuple(nodes)), places[asked], given=given), tuple(places)


def _settle(stated: _Stated, asked: str) -> _Reading:
    definitions: dict[str, _Definition] = {}
    told: dict[str, int] = {}
    for name, said in stated.items():
        numbers = [definition.constant for definition in said if definition.is_number]
        others = [definition for definition in said if not definition.is_number]
        if len(said) == 1 and (name == asked or said[0] != _EXISTS):
            definitions[name] = said[0]
        elif len(numbers) == len(others) == 1 and _EXISTS not in others:
            definitions[name] = others[0]
            told[name] = numbers[0] or 0
    forms: dict[str, Linear] = {}
    waiting = dict(definitions)
    while ready := [name for name in waiting if all(parent in forms for parent in waiting[name].parents)]:
        for name in ready:
            form = _form(waiting.pop(name), forms)
            if form.a or told.get(name, form.b) == form.b:
                forms[name] = form
    return _Reading(stated, definitions, told, forms)


def _form(definition: _Definition, forms: Mapping[str, Linear]) -> Linear:
    if definition == _EXISTS:
        return Linear(1, 0)
    operation, constant, parents, minus = definition
    node = Node(Quantity(0, 0), operation, constant, tuple(range(len(parents))), minus)
    form = linear_form(node, [forms[parent] for parent in parents])
    assert form is not None  # flat problems neither divide nor multiply quantities
    return form


def _equation(reading: _Reading, asked: str) -> tuple[str, int]:
    """The quantity whose told number settles the asked one, and what the asked one is.

    Raises:
        _UnsettledError: there is no such quantity, or no positive whole number that fits all of them.
    """
    equations = {name: reading.forms[name] for name in reading.told if name in reading.forms and reading.forms[name].a}
    if not equations:
        raise _UnsettledError(_no_equation(reading, asked))
    top, form = next(iter(equations.items()))
    unknown = (reading.told[top] - form.b) // form.a
    if unknown <= 0 or any(form.a * unknown + form.b != reading.told[name] for name, form in equations.items()):
        texts = [f"{form.a} * x + {form.b} = {reading.told[name]} ({name})" for name, form in equations.items()]
        raise _UnsettledError(f"no positive whole number x of {asked} solves {' and '.join(texts)}")
    return top, unknown


def _no_equation(reading: _Reading, asked: str) -> str:
    """Why no told number depends on the asked quantity."""
    for name in reading.told:
        if name not in reading.forms:
            return reading.missing(name)
    numbers = [name for name, definition in reading.definitions.items() if definition.is_number]
    for name in numbers:
        if name.startswith(_TOTAL):
            return _never_said(name)
    alone = " or ".join([*reading.told, *numbers]) or "anything"
    return f"the text never says how {alone} depends on {asked}"
