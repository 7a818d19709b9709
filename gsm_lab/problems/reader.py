"""The perfect solver: reads nothing but the text of a problem, and writes a full solution.

It never sees the graph that the text was made from. What it cannot solve, nobody can: it proves that texts are sound.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from gsm_lab.errors import TemplateError
from gsm_lab.problems.graph import DependencyGraph, Node, Operation, Problem, Quantity
from gsm_lab.problems.solution import Style, solution
from gsm_lab.problems.template import FACTS, VARIABLES, Template, name_patterns
from gsm_lab.problems.trace import write_trace

_OPERATION_OF = {
    "constant": Operation.CONSTANT,
    "copy": Operation.COPY,
    "sum": Operation.SUM,
    "difference": Operation.DIFFERENCE,
    "plus_one": Operation.PLUS,
    "plus_many": Operation.PLUS,
    "minus": Operation.MINUS,
    "times_one": Operation.TIMES,
    "times_many": Operation.TIMES,
}


@dataclass(frozen=True)
class _Patterns:
    facts: tuple[tuple[Operation, re.Pattern[str]], ...]
    modulus: re.Pattern[str]
    questions: Mapping[str, tuple[int, int | None]]


@lru_cache(maxsize=32)
def _patterns_of(template: Template) -> _Patterns:
    names, meaning = name_patterns(template)
    one = f"(?:{names.pattern})"
    many = (
        one
        + f"(?:(?:{'|'.join(re.escape(template.pattern[f'list.{key}']) for key in ('last', 'middle', 'pair'))}){one})+"
    )
    slots = {
        "{x}": f"(?P<x>{one})",
        "{a}": f"(?P<a>{one})",
        "{b}": f"(?P<b>{one})",
        "{list}": f"(?P<list>{many})",
        "{c}": r"(?P<c>\d+)",
        "{m}": r"(?P<m>\d+)",
    }

    def compiled(pattern: str) -> re.Pattern[str]:
        parts = re.split(r"(\{\w+\})", pattern)
        return re.compile("".join(slots.get(part, re.escape(part)) for part in parts))

    return _Patterns(
        facts=tuple((_OPERATION_OF[kind], compiled(template.pattern[f"facts.{kind}"])) for kind in FACTS),
        modulus=compiled(template.pattern["prompt.modulus"]),
        questions={template.question(*noun): noun for noun in meaning.values()},
    )


def read_problem(prompt: str, template: Template) -> Problem:
    """The problem that a text tells, its quantities numbered as the template's places and items.

    Raises:
        TemplateError: a sentence cannot be read, or the text defines a quantity twice or not at all.
    """
    patterns = _patterns_of(template)
    names, meaning = name_patterns(template)
    end = template.pattern["prompt.fact_end"]
    question = next((text for text in patterns.questions if prompt.endswith(text)), None)
    if question is None:
        raise TemplateError(f"no question could be read at the end of {prompt[-80:]!r}.")
    modulus = None
    facts: dict[Quantity, Node] = {}
    body = prompt.removesuffix(question).strip()
    for sentence in body.removesuffix(end).split(end + " ") if body else ():
        text = sentence[0].lower() + sentence[1:] if template.capitalise else sentence
        counted = patterns.modulus.fullmatch(sentence)
        if counted:
            modulus = int(counted["m"])
            continue
        found = next(
            ((operation, match) for operation, pattern in patterns.facts if (match := pattern.fullmatch(text))), None
        )
        if found is None:
            raise TemplateError(f"the sentence {sentence!r} could not be read.")
        operation, match = found
        groups = match.groupdict()
        parents = [groups[key] for key in ("a", "b") if groups.get(key)] or names.findall(groups.get("list") or "")
        name = Quantity(*meaning[groups["x"]])
        if name in facts:
            raise TemplateError(f"{groups['x']!r} is defined twice.")
        constant = int(groups["c"]) if groups.get("c") else None
        facts[name] = Node(name, operation, constant, tuple(Quantity(*meaning[parent]) for parent in parents))
    query = Quantity(*patterns.questions[question])
    return Problem(DependencyGraph(_in_order(_with_totals(facts, query))), query, modulus)


def _with_totals(facts: dict[Quantity, Node], query: Quantity) -> dict[Quantity, Node]:
    """The facts, and every total that they or the question speak of: all kinds mentioned for its place."""
    spoken = {parent for node in facts.values() for parent in node.parents} | {query}
    nodes = dict(facts)
    for name in sorted(name for name in spoken if name.is_total):
        kinds = sorted({kind for kind in (*facts, *spoken) if kind.place == name.place and not kind.is_total})
        nodes[name] = Node(name, Operation.TOTAL, None, tuple(kinds))
    return nodes


def _in_order(nodes: dict[Quantity, Node]) -> tuple[Node, ...]:
    """The nodes, each after its parents; what the text never settles is an error."""
    order: dict[Quantity, Node] = {}
    waiting = dict(nodes)
    while waiting:
        ready = [name for name, node in waiting.items() if all(parent in order for parent in node.parents)]
        if not ready:
            raise TemplateError(f"the text does not settle {next(iter(waiting))}: a definition is missing or circular.")
        for name in ready:
            order[name] = waiting.pop(name)
    return tuple(order.values())


def solve_text(prompt: str, template: Template, style: Style | None = None) -> str:
    """A full solution of a problem, from its text alone; it begins with a space, as gold completions do."""
    problem = read_problem(prompt, template)
    names = {node.name: template.short_name(*node.name) for node in problem.graph.nodes}
    variables = names
    if template.grammar.has_variables:
        variables = {node.name: letter for node, letter in zip(problem.needed, VARIABLES, strict=False)}
    statements = solution(problem, names, variables, (style or Style()).trace_order)
    return " " + write_trace(statements, template.grammar)
