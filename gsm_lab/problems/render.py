"""Puts a problem into the words of a template."""

import random

from gsm_lab.errors import TemplateError
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.graph import Operation, Problem
from gsm_lab.problems.solution import Style, solution
from gsm_lab.problems.template import LETTERS, VARIABLES, Template
from gsm_lab.problems.trace import write_trace


def render(problem: Problem, template: Template, rng: random.Random, style: Style | None = None) -> Exercise:
    """The same problem in the words of `template`; all randomness (nouns, letters, order) is `rng`'s.

    Raises:
        TemplateError: the template has fewer places or items than the problem speaks of.
    """
    style = style or Style()
    _check_room(problem, template)
    places = rng.sample(range(len(template.places)), len(template.places))
    items = rng.sample(range(len(template.items)), len(template.items))
    nouns = {
        node.name: (places[node.name.place], None if node.name.item is None else items[node.name.item])
        for node in problem.graph.nodes
    }
    names = {quantity: template.name(*noun) for quantity, noun in nouns.items()}
    short_names = {quantity: template.short_name(*noun) for quantity, noun in nouns.items()}
    facts = [
        template.fact(node, names[node.name], [names[parent] for parent in node.parents])
        for node in problem.graph.nodes
        if node.operation is not Operation.TOTAL
    ]
    if style.sentence_order == "shuffled":
        rng.shuffle(facts)
    preamble = [] if problem.modulus is None else [template.modulus_sentence(problem.modulus)]
    variables = short_names
    if template.grammar.has_variables:
        letters = rng.sample(VARIABLES[: max(len(LETTERS), len(problem.needed))], len(problem.needed))
        variables = {node.name: letter for node, letter in zip(problem.needed, letters, strict=True)}
    statements = solution(problem, short_names, variables, style.trace_order)
    return Exercise(
        problem=problem,
        context=template.context,
        frames=template.frames,
        style=style,
        names=tuple(short_names[node.name] for node in problem.graph.nodes),
        grammar=template.grammar,
        prompt=" ".join([*preamble, *facts, template.question(*nouns[problem.query])]),
        completion=" " + write_trace(statements, template.grammar),
    )


def _check_room(problem: Problem, template: Template) -> None:
    places = 1 + max(node.name.place for node in problem.graph.nodes)
    items = 1 + max(node.name.item or 0 for node in problem.graph.nodes)
    if places > len(template.places) or items > len(template.items):
        raise TemplateError(
            f"the problem speaks of {places} places and {items} items, {template.context!r} has "
            f"{len(template.places)} and {len(template.items)}: draw with places and items that low, or add nouns."
        )
