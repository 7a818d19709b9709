"""The perfect solver: reads nothing but the text of a problem, and writes a full solution.

It never sees the graph that the text was made from. What it cannot solve, nobody can: it proves that texts are sound.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from gsm_lab.errors import GraphError, TemplateError
from gsm_lab.problems.grammar import VARIABLES
from gsm_lab.problems.graph import DependencyGraph, Linear, Node, Operation, Quantity
from gsm_lab.problems.measures import linear_form
from gsm_lab.problems.problem import Problem
from gsm_lab.problems.solution import write_solution
from gsm_lab.problems.style import Style
from gsm_lab.problems.template import KINDS, Template

_OPERATIONS = {
    "constant": Operation.CONSTANT,
    "copy": Operation.COPY,
    "sum": Operation.SUM,
    "difference": Operation.DIFFERENCE,
    "plus": Operation.PLUS,
    "minus": Operation.MINUS,
    "times": Operation.TIMES,
    "divided": Operation.DIVIDED,
}
_NAME = "\x02{0}\x03"
"""What stands for quantity number so-and-so while a sentence is read."""
_ONE = "\x02\\d+\x03"
_NUMBER = re.compile("\x02(\\d+)\x03")


@dataclass(frozen=True)
class Definition:
    """What one sentence says of a quantity, in names."""

    operation: Operation
    constant: int | None
    parents: tuple[Quantity, ...]
    minus: int


@dataclass(frozen=True)
class Told:
    """All that a text says."""

    definitions: Mapping[Quantity, Definition]
    unknown: tuple[Quantity, ...]
    given: Mapping[Quantity, int]
    modulus: int | None
    query: Quantity


@dataclass(frozen=True)
class _Patterns:
    name: re.Pattern[str]
    """Finds quantities as facts call them."""
    meaning: Mapping[str, Quantity]
    facts: tuple[tuple[str, re.Pattern[str]], ...]
    net: re.Pattern[str]
    modulus: re.Pattern[str]
    rules: frozenset[str]
    questions: Mapping[str, Quantity]


@lru_cache(maxsize=32)
def _patterns_of(template: Template) -> _Patterns:
    pattern = template.pattern
    separators = {re.escape(pattern[f"list.{key}"]) for key in ("last", "middle", "pair")}
    between = "|".join(sorted(separators, key=len, reverse=True))
    listed = f"{_ONE}(?:(?:{between}){_ONE})+"
    summed = _with_slots(pattern["groups.sum"], {"list": listed})
    side = f"(?:{_ONE}|{summed})"
    net = _with_slots(pattern["groups.net"], {"plus": side, "minus": side})
    slots = {
        "x": f"(?P<x>{_ONE})",
        "c": r"(?P<c>[0-9]{1,12})",
        "g": f"(?P<g>{_ONE}|{summed}|{net})",
        "list": f"(?P<list>{listed})",
        "plus": f"(?P<plus>{side})",
        "minus": f"(?P<minus>{side})",
    }
    facts = []
    for kind in ("constant", "copy", "sum", "difference", "plus", "minus", "times", "divided", "unknown", "given"):
        own = slots | {"g": f"(?P<g>{_ONE})"} if kind == "copy" else slots
        sentence = pattern[f"facts.{kind}"]
        if not sentence.startswith("{x}"):
            sentence = template.capitalised(sentence)
        facts.append((kind, re.compile(_with_slots(sentence, own))))
    return _Patterns(
        name=_name_pattern(template),
        meaning={
            names[quantity]: quantity
            for names in (template.names, template.first_names)
            for quantity in template.quantities()
        },
        facts=tuple(facts),
        net=re.compile(
            _with_slots(pattern["groups.net"], {"plus": f"(?P<plus>{side})", "minus": f"(?P<minus>{side})"})
        ),
        modulus=re.compile(_with_slots(pattern["prompt.modulus"], {"m": "(?P<m>[0-9]{1,12})"})),
        rules=frozenset(template.rule(kind).removesuffix(pattern["prompt.fact_end"]) for kind in ("total", "yield")),
        questions={template.questions[quantity]: quantity for quantity in template.quantities()},
    )


def _with_slots(pattern: str, slots: Mapping[str, str]) -> str:
    """A pattern as a regular expression, given those of its slots."""
    parts = re.split(r"\{(\w+)\}", pattern)
    return "".join(slots[part] if at % 2 else re.escape(part) for at, part in enumerate(parts))


def _name_pattern(template: Template) -> re.Pattern[str]:
    """A regular expression that finds every name of a quantity, the longest first."""
    nouns: dict[str, set[str]] = {}
    for number, place in enumerate(template.places):
        for key, text in (*place, ("number", str(number))):
            nouns.setdefault("place" if key == "name" else f"place_{key}", set()).add(text)
    for number, item in enumerate(template.items):
        for key, text in (*item, ("short", dict(item)["short"]), ("number", str(number))):
            nouns.setdefault(f"item_{key}" if key in ("short", "number") else key, set()).add(text)
    for name, words in (("category", template.category), ("part", template.part)):
        for key, text in words:
            nouns[name if key == "many" else f"{name}_{key}"] = {text}
    slots = {key: _any_of(texts) for key, texts in nouns.items()}
    patterns = [template.pattern[f"names.{kind}"] for kind in KINDS]
    kinds = [
        _with_slots(pattern, slots) for pattern in dict.fromkeys([*patterns, *map(template.capitalised, patterns)])
    ]
    return re.compile(r"(?<![A-Za-z0-9_])(?:" + "|".join(kinds) + r")(?![A-Za-z0-9_])")


def _any_of(texts: set[str]) -> str:
    return "(?:" + "|".join(re.escape(text) for text in sorted(texts, key=lambda text: (-len(text), text))) + ")"


def read_text(prompt: str, template: Template) -> Told:
    """What a text says, sentence by sentence, its quantities numbered as the template's places and items.

    Raises:
        TemplateError: a sentence cannot be read, or the text says something twice.
    """
    patterns = _patterns_of(template)
    end = template.pattern["prompt.fact_end"]
    cut = prompt.rfind(end)
    body, question = (prompt[: cut + len(end)], prompt[cut + len(end) :].strip()) if cut >= 0 else ("", prompt.strip())
    if question not in patterns.questions:  # the question itself may end like a fact, or hold its mark
        question = next((text for text in patterns.questions if prompt.endswith(text)), "")
        body = prompt[: len(prompt) - len(question)]
    if not question:
        raise TemplateError(f"no question could be read at the end of {prompt[-80:]!r}.")
    definitions: dict[Quantity, Definition] = {}
    unknown: list[Quantity] = []
    given: dict[Quantity, int] = {}
    modulus = None
    known: list[Quantity] = []

    def placeholder(found: re.Match[str]) -> str:
        known.append(patterns.meaning[found.group()])
        return _NAME.format(len(known) - 1)

    for sentence in _sentences(body, end, template):
        if sentence in patterns.rules:
            continue
        if counted := patterns.modulus.fullmatch(sentence):
            if modulus is not None:
                raise TemplateError(f"the text counts modulo {modulus} and then modulo {counted['m']}.")
            modulus = int(counted["m"])
            continue
        known.clear()
        kind, found = _match(patterns.name.sub(placeholder, sentence), sentence, patterns)
        name = known[int(_NUMBER.findall(found["x"])[0])]
        if kind == "unknown":
            unknown.append(name)
        elif kind == "given":
            if name in given:
                raise TemplateError(f"the value of {template.names[name]!r} is told twice.")
            given[name] = int(found["c"])
        else:
            if name in definitions:
                raise TemplateError(f"{template.names[name]!r} is defined twice.")
            definitions[name] = _definition(kind, found, known, patterns)
    return Told(definitions, tuple(unknown), given, modulus, patterns.questions[question])


def _sentences(body: str, end: str, template: Template) -> list[str]:
    parts = (end + template.joiner) if template.joiner else end
    text = body.strip()
    return [sentence for sentence in text.removesuffix(end).split(parts) if sentence] if text else []


def kinds_of(sentence: str, template: Template) -> list[str]:
    """The kinds of facts that a sentence, without its end mark, can be read as."""
    patterns = _patterns_of(template)
    numbers = iter(range(len(sentence)))
    text = patterns.name.sub(lambda _: _NAME.format(next(numbers)), sentence)
    return [kind for kind, pattern in patterns.facts if pattern.fullmatch(text)]


def _match(text: str, sentence: str, patterns: _Patterns) -> tuple[str, Mapping[str, str]]:
    """The one pattern that a sentence follows, and what is in its slots."""
    fitting = [(kind, found.groupdict()) for kind, pattern in patterns.facts if (found := pattern.fullmatch(text))]
    if not fitting:
        raise TemplateError(f"the sentence {sentence!r} could not be read.")
    if len(fitting) > 1:
        raise TemplateError(f"the sentence {sentence!r} can be read as {' or as '.join(kind for kind, _ in fitting)}.")
    return fitting[0]


def _definition(kind: str, found: Mapping[str, str], known: Sequence[Quantity], patterns: _Patterns) -> Definition:
    def quantities(text: str) -> list[Quantity]:
        return [known[int(number)] for number in _NUMBER.findall(text)]

    sides = found
    group = found.get("g") or found.get("list") or ""
    if net := patterns.net.fullmatch(group):
        sides = net.groupdict()
    if sides.get("plus"):
        subtracted = quantities(sides["minus"])
        parents = [*quantities(sides["plus"]), *subtracted]
        minus = len(subtracted)
    else:
        parents, minus = quantities(group), 0
    constant = int(found["c"]) if found.get("c") else None
    return Definition(_OPERATIONS[kind], constant, tuple(parents), minus)


def read_problem(prompt: str, template: Template) -> Problem:
    """The problem that a text tells, its unknown found; its places and items are the template's.

    Raises:
        TemplateError: a sentence cannot be read, the text contradicts itself, does not settle what it asks for, or
            speaks of a count below 0 or a division with a remainder.
    """
    told = read_text(prompt, template)
    try:
        problem = _problem(told, template)
        negative = [node.name for node, value in zip(problem.graph.nodes, problem.values, strict=True) if value < 0]
    except GraphError as error:
        raise TemplateError(f"the text tells no sound problem: {error}") from error
    if negative:
        raise TemplateError(f"the text makes {template.names[negative[0]]!r} less than 0.")
    return problem


def _problem(told: Told, template: Template) -> Problem:
    if told.modulus is not None and (told.modulus < 2 or told.given):
        raise TemplateError(f"the text counts modulo {told.modulus}, which it cannot, or not in a reverse problem.")
    definitions = _with_totals(told)
    order = _in_order(definitions, told.unknown, template)
    for name in (told.query, *told.given):
        if name not in order:
            raise TemplateError(f"the text never says what {template.names[name]!r} is.")
    if not told.given:
        if told.unknown:
            raise TemplateError(f"the text never says what {template.names[told.unknown[0]]!r} is.")
        return Problem(DependencyGraph(_nodes(order, definitions)), order.index(told.query), told.modulus)
    return _reverse(told, order, definitions, template)


def _reverse(told: Told, order: list[Quantity], definitions: dict[Quantity, Definition], template: Template) -> Problem:
    """Solve the equation that the given value makes, and put the unknown's value into the graph."""
    (top, value), *others = told.given.items()
    if others or told.unknown != (told.query,):
        raise TemplateError(f"the text has {len(told.given)} given values and {len(told.unknown)} unknowns, not one.")
    definitions = definitions | {told.query: Definition(Operation.CONSTANT, 0, (), 0)}
    nodes = _nodes(order, definitions)
    forms: list[Linear | None] = []
    for node in nodes:
        forms.append(Linear(1, 0) if node.name == told.query else linear_form(node, forms))
    form = forms[order.index(top)]
    if form is None or not form.a or (value - form.b) % form.a or (value - form.b) // form.a < 0:
        raise TemplateError(f"the equation {form} = {value} does not settle {template.names[told.query]!r}.")
    definitions[told.query] = Definition(Operation.CONSTANT, (value - form.b) // form.a, (), 0)
    return Problem(DependencyGraph(_nodes(order, definitions)), order.index(told.query), None, order.index(top))


def _nodes(order: Sequence[Quantity], definitions: Mapping[Quantity, Definition]) -> tuple[Node, ...]:
    place_of = {name: place for place, name in enumerate(order)}
    return tuple(
        Node(name, one.operation, one.constant, tuple(place_of[parent] for parent in one.parents), one.minus)
        for name in order
        for one in (definitions[name],)
    )


def _with_totals(told: Told) -> dict[Quantity, Definition]:
    """The definitions, and every total that the text speaks of: all kinds mentioned for its place."""
    spoken = {parent for one in told.definitions.values() for parent in one.parents}
    spoken |= {told.query, *told.unknown, *told.given, *told.definitions}
    kinds_of: dict[int, list[int]] = {}
    for name in sorted(name for name in spoken if not name.is_total and not name.each):
        assert name.item is not None
        kinds_of.setdefault(name.place, []).append(name.item)
    definitions = dict(told.definitions)
    for name in spoken:
        if not name.is_total or name in definitions:
            continue
        items = kinds_of.get(name.place, [])
        if name.each:
            pairs = [Quantity(name.place, item, each) for item in items for each in (False, True)]
            definitions[name] = Definition(Operation.NESTED_TOTAL, None, tuple(pairs), 0)
        else:
            counts = [Quantity(name.place, item) for item in items]
            definitions[name] = Definition(Operation.TOTAL, None, tuple(counts), 0)
    return definitions


def _in_order(
    definitions: Mapping[Quantity, Definition], unknown: Sequence[Quantity], template: Template
) -> list[Quantity]:
    """The quantities, each after its parents; what the text never settles is an error."""
    missing: dict[Quantity, int] = {}
    users: dict[Quantity, list[Quantity]] = {}
    for name, one in definitions.items():
        missing[name] = len(one.parents)
        for parent in one.parents:
            users.setdefault(parent, []).append(name)
    ready = [*dict.fromkeys(unknown), *(name for name, count in missing.items() if not count)]
    order: list[Quantity] = []
    for name in ready:
        order.append(name)
        for user in users.get(name, ()):
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    left = [name for name in definitions if missing[name]]
    undefined = [name for name in users if name not in definitions and name not in unknown]
    if left or undefined:
        name = (undefined or left)[0]
        raise TemplateError(f"the text does not settle {template.names[name]!r}: a definition is missing or circular.")
    return order


def solve_text(prompt: str, template: Template, style: Style | None = None, rng: Random | None = None) -> str:
    """A full solution of a problem, from its text alone, as a completion.

    Raises:
        TemplateError: as `read_problem`.
    """
    problem = read_problem(prompt, template)
    names = [template.short_names[node.name] for node in problem.graph.nodes]
    variables: Sequence[str] = names
    if template.grammar.has_variables:
        letter_of = dict(zip(problem.needed, VARIABLES, strict=False))
        variables = [letter_of.get(place, "") for place in range(len(names))]
    return write_solution(problem, names, variables, template.grammar, style or Style(), rng)
