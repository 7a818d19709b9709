"""Puts a problem into the words of a template."""

from collections.abc import Callable, Sequence
from itertools import repeat
from random import Random

from gsm_lab.errors import TemplateError
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.graph import IMPLICIT, Problem, Quantity
from gsm_lab.problems.solution import Style, write_solution
from gsm_lab.problems.spec import PLACES
from gsm_lab.problems.template import Template
from gsm_lab.problems.trace import LETTERS, VARIABLES

PLAIN = Style()


def render(problem: Problem, template: Template, rng: Random, style: Style = PLAIN) -> Exercise:
    """The same problem in the words of `template`; all randomness (nouns, letters, order) is `rng`'s.

    Raises:
        TemplateError: the template has fewer places, items or letters than the problem needs.
    """
    random = rng.random
    nodes = problem.graph.nodes
    quantities = _renamed(problem, template, rng)
    sentences = _sentence_order(problem, style.sentence_order, rng)
    facts = []
    for place in sentences:
        node = nodes[place]
        if place == problem.query and problem.given is not None and problem.given != place:
            facts.append(template.unknown_fact(quantities[place]))
        else:
            facts.append(template.fact(node, quantities[place], [quantities[parent] for parent in node.parents]))
    if problem.given is not None and problem.given != problem.query:
        fact = template.given_fact(quantities[problem.given], problem.values[problem.given])
        at = _place_of_given(problem, sentences, style.sentence_order, random)
        facts.insert(at, fact)
    texts = [] if problem.modulus is None else [template.modulus_sentence(problem.modulus)]
    if style.rules:
        texts += [template.rule("yield" if each else "total") for each in _rules(problem)]
    names = [template.short_names[quantity] for quantity in quantities]
    variables: Sequence[str] = names
    if template.grammar.has_variables:
        variables = _letters(problem, random)
    return Exercise(
        problem=problem,
        context=template.context,
        frames=template.frames,
        style=style,
        names=tuple(names),
        sentences=tuple(sentences),
        grammar=template.grammar,
        prompt=template.joiner.join([*texts, *facts, template.question(quantities[problem.query])]),
        completion=write_solution(problem, names, variables, template.grammar, style, rng),
    )


def _renamed(problem: Problem, template: Template, rng: Random) -> list[Quantity]:
    """The quantities with the places and items moved on by a random number: other nouns, the same problem."""
    nodes = problem.graph.nodes
    num_places, num_items = len(template.places), len(template.items)
    if num_places > PLACES and max([node[0][0] for node in nodes]) < PLACES:
        num_places = PLACES  # further places are for those that need them
    place_by, item_by = int(rng.random() * num_places), int(rng.random() * num_items)
    quantities = []
    for node in nodes:
        place, item, each = node[0]
        if place >= num_places or (item is not None and item >= num_items):
            raise TemplateError(
                f"the problem speaks of place {place} and item {item}, {template.context!r} has {num_places} places "
                f"and {num_items} items: draw with places and items that low, or add nouns."
            )
        place = (place + place_by) % num_places
        quantities.append(Quantity(place, None if item is None else (item + item_by) % num_items, each))
    return quantities


def _sentence_order(problem: Problem, order: str, rng: Random) -> list[int]:
    """The quantities that the text defines, in the order of its sentences."""
    nodes = problem.graph.nodes
    stated = [place for place, node in enumerate(nodes) if node[1] not in IMPLICIT]
    random = rng.random
    if order == "shuffled":
        keys = [random() for _ in nodes]
    else:
        needed = set(problem.needed)
        keys = []
        for place, node in enumerate(nodes):
            after = max([keys[parent] for parent in node.parents], default=-1.0)
            keys.append(float(place) if place in needed else after + random() * (len(nodes) - after))
        if order == "reversed":
            keys = [-key for key in keys]
    stated.sort(key=keys.__getitem__)
    return stated


def _place_of_given(problem: Problem, sentences: Sequence[int], order: str, random: Callable[[], float]) -> int:
    """Where the sentence goes that tells the given value: anywhere, or beside the definition of what it is about."""
    if order == "shuffled":
        return int(random() * (len(sentences) + 1))
    if problem.given is not None and problem.given in sentences:
        return list(sentences).index(problem.given) + (order == "computation")
    return len(sentences) if order == "computation" else 0


def _rules(problem: Problem) -> list[bool]:
    """The kinds of implicit totals in a problem: False for a flat one, True for a nested one."""
    return sorted({node.name.each for node in problem.graph.nodes if node.operation in IMPLICIT})


def _letters(problem: Problem, random: Callable[[], float]) -> list[str]:
    """A different letter, or letter with digit, for every needed quantity; nothing for the others."""
    needed = problem.needed
    if len(needed) > len(VARIABLES):
        raise TemplateError(
            f"the solution has {len(needed)} quantities and there are {len(VARIABLES)} letters for them."
        )
    free = list(LETTERS if len(needed) <= len(LETTERS) else VARIABLES)
    room = len(free)
    letters = list(repeat("", len(problem.graph.nodes)))
    for at, place in enumerate(needed):
        other = at + int(random() * (room - at))
        letters[place] = free[other]
        free[other] = free[at]
    return letters
