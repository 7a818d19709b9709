"""Whether a template can be read back: enough nouns, no ambiguous ones, none that collides with the grammar."""

from collections.abc import Iterator, Sequence

from gsm_lab.errors import TemplateError
from gsm_lab.problems.graph import Quantity
from gsm_lab.problems.phrase import fill
from gsm_lab.problems.reader import kinds_of
from gsm_lab.problems.spec import ITEMS, PLACES
from gsm_lab.problems.statements import Answer, Binary, Check, Given, Plan, Retract, Solve, Statement, Step, Unknown
from gsm_lab.problems.template import PATTERNS, Template, forbidden_marks
from gsm_lab.problems.trace import read_trace, write_trace


def check_template(template: Template) -> None:
    """Refuse a template that texts or solutions cannot be read with.

    Raises:
        TemplateError: the first fault that `faults` finds.
    """
    for fault in faults(template):
        raise TemplateError(fault)


def faults(template: Template) -> Iterator[str]:
    """Everything that is wrong with a template, one sentence each."""
    if len(template.places) < PLACES or len(template.items) < ITEMS:
        yield (
            f"context {template.context!r} has {len(template.places)} places and {len(template.items)} items: "
            f"give at least {PLACES} and {ITEMS}, so that every problem can be told in it."
        )
    yield from _nouns(template)
    found = [*_doubles(template)]
    yield from found
    if template.language != "any":
        yield from _collisions(template)
    if not found:  # or else these would say the same in other words
        yield from _sentences(template)
        yield from _solutions(template)


def _nouns(template: Template) -> Iterator[str]:
    groups = (*template.places, *template.items, template.category, template.part)
    for group in groups:
        for key, noun in group:
            marks = forbidden_marks(noun)
            if not noun or noun != " ".join(noun.split()):
                yield f"the noun {noun!r} ({key}) of {template.context!r} is empty or has a space too many: mend it."
            elif marks:
                yield (
                    f"the noun {noun!r} ({key}) of {template.context!r} holds {' '.join(sorted(marks))}, marks of the "
                    f"grammar or digits: write it in letters."
                )
    if template.language == "en":
        for item in template.items:
            forms = dict(item)
            if forms["one"] == forms["many"]:
                yield (
                    f"the item {forms['one']!r} of {template.context!r} has the same plural: choose a noun whose "
                    f"singular and plural differ, or a text about one of them reads wrong."
                )


def _doubles(template: Template) -> Iterator[str]:
    """Two quantities with one name, or a name within another."""
    quantities = list(template.quantities())
    for table in (template.names, template.short_names):
        meaning: dict[str, Quantity] = {}
        for quantity in quantities:
            name = table[quantity]
            if name in meaning:
                yield (
                    f"{template.context!r} with {template.frames!r} calls two quantities {name!r}: "
                    f"rename a place, an item, the category or the part."
                )
                return
            meaning[name] = quantity
    kinds = (("place", [dict(place)["name"] for place in template.places]),
             ("item", [dict(item)["many"] for item in template.items]))  # fmt: skip
    counted = {dict(template.category)["many"], dict(template.part)["many"]}
    for noun in counted.intersection(kinds[1][1]) if template.language != "any" else ():
        yield f"the item {noun!r} of {template.context!r} is also its category or part: a total would mean two things."
    for kind, nouns in kinds:
        for noun in nouns:
            for other in nouns:
                if noun != other and _holds(other, noun, template.language):
                    yield (
                        f"the {kind} {noun!r} of {template.context!r} is a part of {other!r}: a reader cannot tell "
                        f"where a name ends; rename one of them."
                    )


def _holds(text: str, part: str, language: str) -> bool:
    """Whether the words of `part` are among those of `text`, or its characters where a language has no spaces."""
    return part in text if language == "zh" else f" {part} " in f" {text} "


def _collisions(template: Template) -> Iterator[str]:
    """Nouns that are words of the sentences themselves."""
    fixed = " ".join(
        template.in_words(pattern, None) if "rule" in kind else pattern
        for kind, pattern in template.patterns
        if kind.startswith(("list.", "groups.", "facts."))
    )
    nouns: Sequence[str] = [
        text for group in (*template.places, *template.items) for key, text in group if key != "short"
    ]
    for noun in nouns:
        if _holds(fixed, noun, template.language):
            yield (
                f"the noun {noun!r} of {template.context!r} is a word of the sentences of {template.frames!r}: "
                f"choose another noun."
            )


def _sentences(template: Template) -> Iterator[str]:
    """Every kind of fact must be read as that kind alone."""
    x, a, b, c = (Quantity(place, item) for place, item in ((0, 0), (0, 1), (1, 0), (1, 1)))
    names, first = template.names, template.first_names
    end = template.pattern["prompt.fact_end"]
    group = fill(template.groups[0], ("", "", template.listing([names[a], names[b]]), "", ""))
    net = fill(template.groups[1], ("", "", "", group, names[c]))
    listed = template.listing([names[a], names[b], names[c]])
    for kind in PATTERNS["facts"]:
        phrase, x_first = template.phrase(f"facts.{kind}")
        told = (first if x_first else names)[x]
        if kind in ("constant", "unknown", "given"):
            groups = [""]
        elif kind in ("sum", "difference"):
            groups = [listed]
        else:
            groups = [names[a]] if kind == "copy" else [names[a], group, net]
        for one in groups:
            sentence = fill(phrase, (told, "7", one, names[a], group)).removesuffix(end)
            kinds = kinds_of(sentence, template)
            if kinds != [kind]:
                read = " or as ".join(kinds) or "nothing at all"
                yield (
                    f"frames {template.frames!r}: the sentence {sentence!r} of facts.{kind} is read as {read}: "
                    f"change its words, or those of the others."
                )
                return
    questions: dict[str, Quantity] = {}
    for quantity in template.quantities():
        question = template.questions[quantity]
        if question in questions:
            yield f"frames {template.frames!r}: the question {question!r} asks for two quantities: name it in full."
            return
        questions[question] = quantity


def _solutions(template: Template) -> Iterator[str]:
    """Every statement, and every name in one, must come back from a written solution as it was."""
    grammar = template.grammar
    for quantity in template.quantities():
        name = template.short_names[quantity]
        variable = "k" if grammar.has_variables else name
        statements: list[Statement] = [
            Plan(name, Binary("+", 2, name)),
            Step(name, variable, (Binary("-", name, 2), 3)),
            Unknown(name, variable),
            Given(name, 3, (Binary("*", 2, name), 3)),
            Solve((Binary("*", 2, variable), 4)),
            Check((Binary("+", 2, 3), 5)),
            Retract(),
            Answer(7),
        ]
        if read_trace(write_trace(statements, grammar), grammar) != statements:
            yield (
                f"in {template.context!r} with {template.frames!r} a solution that speaks of {name!r} cannot be read: "
                f"give a shorter noun, or one word where the frames have no letters for quantities, and make sure that "
                f"no two patterns of trace look alike."
            )
            return
