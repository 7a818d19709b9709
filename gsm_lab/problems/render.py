"""Puts a problem into the words of a template."""

from collections.abc import Callable, Sequence
from itertools import repeat
from random import Random

from gsm_lab.errors import TemplateError
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.grammar import LETTERS, VARIABLES
from gsm_lab.problems.graph import IMPLICIT, Node, Operation
from gsm_lab.problems.making import made
from gsm_lab.problems.phrase import fill
from gsm_lab.problems.problem import Problem
from gsm_lab.problems.solution import write_solution
from gsm_lab.problems.spec import PLACES
from gsm_lab.problems.style import Style
from gsm_lab.problems.template import Template, Words

PLAIN = Style()


def render(problem: Problem, template: Template, rng: Random, style: Style = PLAIN) -> Exercise:
    """The same problem in the words of `template`; all randomness (nouns, letters, order) is `rng`'s.

    Raises:
        TemplateError: the template has fewer places, items or letters than the problem needs.
    """
    random = rng.random
    nodes = problem.graph.nodes
    words = _words(problem, template, random)
    known = words.known
    told = [known.get(node[0]) or words.names(node[0]) for node in nodes]
    sentences = _sentence_order(problem, style.sentence_order, random)
    phrases = template.facts
    unknown = problem.query if problem.given is not None else -1
    facts = []
    for place in sentences:
        _, operation, constant, parents, _ = nodes[place]
        if place == unknown:
            phrase, x_first = template.unknown_fact
            facts.append(fill(phrase, (told[place][0 if x_first else 1],)))
            continue
        phrase, x_first = phrases[operation]
        x = told[place][0 if x_first else 1]
        if not parents:
            facts.append(fill(phrase, (x, str(constant))))
        elif len(parents) == 1:
            facts.append(fill(phrase, (x, str(constant), told[parents[0]][1])))
        else:
            texts = _texts_of_many(nodes[place], [told[parent][1] for parent in parents], template)
            facts.append(fill(phrase, (x, str(constant), *texts)))
    if problem.given is not None:
        phrase, x_first = template.given_fact
        fact = fill(phrase, (told[problem.given][0 if x_first else 1], str(problem.values[problem.given])))
        facts.insert(_place_of_given(problem, sentences, style.sentence_order, random), fact)
    if problem.modulus is not None or style.rules:
        rules = [] if problem.modulus is None else [template.modulus_sentence(problem.modulus)]
        if style.rules:
            rules += [template.rule("yield" if each else "total") for each in _rules(problem)]
        facts = rules + facts
    facts.append(words.question(nodes[problem.query][0]))
    names = [short for _, _, short in told]
    variables: Sequence[str] = names
    if template.grammar.has_variables:
        variables = _letters(problem, random)
    return made(
        Exercise,
        problem=problem,
        context=template.context,
        frames=template.frames,
        style=style,
        names=tuple(names),
        sentences=tuple(sentences),
        grammar=template.grammar,
        prompt=template.joiner.join(facts),
        completion=write_solution(problem, names, variables, template.grammar, style, rng),
    )


def _texts_of_many(node: Node, texts: list[str], template: Template) -> tuple[str, str, str]:
    """What stands for the group, its sum and what is taken away where a quantity is defined by several parents."""
    _, operation, _, _, minus = node
    if operation is Operation.SUM:
        return template.listing(texts), "", ""
    if not minus:
        return _sum(texts, template), "", ""
    added = len(texts) - minus
    plus, less = _sum(texts[:added], template), _sum(texts[added:], template)
    net = "" if operation is Operation.DIFFERENCE else fill(template.groups[1], ("", "", "", plus, less))
    return net, plus, less


def _sum(texts: list[str], template: Template) -> str:
    return texts[0] if len(texts) == 1 else fill(template.groups[0], ("", "", template.listing(texts)))


def _words(problem: Problem, template: Template, random: Callable[[], float]) -> Words:
    """What quantities are called, with places and items moved on by random numbers: other nouns, the same problem."""
    num_places, num_items = len(template.places), len(template.items)
    greatest_place = greatest_item = 0
    for node in problem.graph.nodes:
        place, item, _ = node[0]
        greatest_place = max(greatest_place, place)
        greatest_item = max(greatest_item, item or 0)
    if num_places > PLACES and greatest_place < PLACES:
        num_places = PLACES  # further places are for those that need them
    if greatest_place >= num_places or greatest_item >= num_items:
        raise TemplateError(
            f"the problem speaks of place {greatest_place} and item {greatest_item}, {template.context!r} has "
            f"{num_places} places and {num_items} items: draw with places and items that low, or add nouns."
        )
    return template.words(num_places, int(random() * num_places), int(random() * num_items))


def _sentence_order(problem: Problem, order: str, random: Callable[[], float]) -> list[int]:
    """The quantities that the text defines, in the order of its sentences."""
    nodes = problem.graph.nodes
    implicit = IMPLICIT
    stated = [place for place, node in enumerate(nodes) if node[1] not in implicit]
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
