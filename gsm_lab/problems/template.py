"""Contexts (nouns) and frames (sentence patterns), read from TOML; a context with frames is a template."""

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from gsm_lab.errors import TemplateError
from gsm_lab.problems.graph import Node, Operation
from gsm_lab.problems.spec import ITEMS, PLACES
from gsm_lab.problems.trace import Binary, Plan, Statement, Step, TraceGrammar, read_trace, write_trace

_HOME = Path(__file__).parent
_FORBIDDEN = set("=<>:;.?()+*-{}0123456789\n\t")
"""Marks that the grammar of texts and solutions uses; a noun may hold none of them."""
LETTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
VARIABLES = LETTERS + tuple(2 * letter for letter in LETTERS[:26])
"""What a solution may call a quantity: a letter, or past 52 quantities a doubled one."""
_PATTERN_OF = {
    Operation.CONSTANT: "constant",
    Operation.COPY: "copy",
    Operation.SUM: "sum",
    Operation.DIFFERENCE: "difference",
    Operation.MINUS: "minus",
}
FACTS = ("constant", "copy", "sum", "difference", "plus_one", "plus_many", "minus", "times_one", "times_many")
Nouns = dict[str, str]


@dataclass(frozen=True)
class Template:
    """Everything that turns quantities into words; made by `load_template`."""

    context: str
    frames: str
    category: tuple[tuple[str, str], ...]
    places: tuple[tuple[tuple[str, str], ...], ...]
    items: tuple[tuple[tuple[str, str], ...], ...]
    capitalise: bool
    patterns: tuple[tuple[str, str], ...]
    """Every pattern of the frames file, as ("facts.sum", "{x} equals ...")."""
    grammar: TraceGrammar

    @cached_property
    def pattern(self) -> Mapping[str, str]:
        return dict(self.patterns)

    def limited(self, places: int, items: int) -> "Template":
        """The same template with its first so many places and items only."""
        return replace(self, places=self.places[:places], items=self.items[:items])

    def _nouns(self, place: int, item: int | None) -> Nouns:
        nouns = {"place_number": str(place), "item_number": str(item)}
        nouns |= {f"category_{key}" if key == "short" else "category": text for key, text in self.category}
        nouns |= {f"place_{key}" if key == "short" else "place": text for key, text in self.places[place]}
        if item is not None:
            nouns |= {f"item_{key}" if key == "short" else key: text for key, text in self.items[item]}
        return nouns

    def name(self, place: int, item: int | None) -> str:
        """The quantity as facts call it."""
        return self.pattern["names.total" if item is None else "names.quantity"].format(**self._nouns(place, item))

    def short_name(self, place: int, item: int | None) -> str:
        """The quantity as solutions call it."""
        kind = "short_names.total" if item is None else "short_names.quantity"
        return self.pattern[kind].format(**self._nouns(place, item))

    def question(self, place: int, item: int | None) -> str:
        """The sentence that asks for the quantity."""
        kind = "prompt.total_question" if item is None else "prompt.quantity_question"
        return self.pattern[kind].format(**self._nouns(place, item))

    def fact(self, node: Node, name: str, parents: Sequence[str]) -> str:
        """The sentence that defines a quantity, given the names of the quantity and of its parents."""
        kind = _PATTERN_OF.get(node.operation) or f"{node.operation}_{'one' if len(parents) == 1 else 'many'}"
        return self.sentence(
            self.pattern[f"facts.{kind}"].format(
                x=name,
                c=node.constant,
                a=parents[0] if parents else "",
                b=parents[1] if len(parents) > 1 else "",
                list=self.listing(parents),
            )
        )

    def modulus_sentence(self, modulus: int) -> str:
        """The sentence that says by what everything is counted."""
        return self.sentence(self.pattern["prompt.modulus"].format(m=modulus))

    def sentence(self, text: str) -> str:
        """A fact as a sentence: its first letter and its end mark."""
        if self.capitalise:
            text = text[0].upper() + text[1:]
        return text + self.pattern["prompt.fact_end"]

    def listing(self, names: Sequence[str]) -> str:
        """`A and B`, or `A, B, and C`."""
        if len(names) < 2:
            return "".join(names)
        if len(names) == 2:
            return self.pattern["list.pair"].join(names)
        return self.pattern["list.middle"].join(names[:-1]) + self.pattern["list.last"] + names[-1]

    def pieces(self) -> Iterator[str]:
        """Strings that between them hold every word, digit and mark, in every spacing, that a rendering can hold."""
        quantities = [(place, item) for place in range(len(self.places)) for item in [None, *range(len(self.items))]]
        facts = [self.pattern[f"facts.{kind}"] for kind in FACTS]
        for place, item in quantities:
            name, short = self.name(place, item), self.short_name(place, item)
            for fact in facts:
                text = self.sentence(fact.format(x=name, c="7", a=name, b=name, list=self.listing([name] * 3)))
                yield from (text, " " + text)
            yield " " + self.question(place, item)
            yield " " + self.grammar.plan.format(n=short, expression=f"2 + 3 * ( {short} - 4 )")
            if not self.grammar.has_variables:
                yield " " + self.grammar.step.format(n=short, v=short, chain=f"2 + 3 * ( {short} - 4 ) = {short}")
        yield from (self.listing(["x", "y"])[1:-1].rstrip(), self.listing(["x", "y", "z"])[1:-1].rstrip())
        for digits in (2 * str(digit) for digit in range(10)):
            yield from (self.modulus_sentence(int("1" + digits)), " " + self.modulus_sentence(int("1" + digits)))
            yield f" {digits} = {digits} " + self.grammar.answer.format(value=digits)
            yield " " + self.grammar.answer.format(value=digits)
        if self.grammar.has_variables:
            short = self.short_name(0, 0)
            for variable in VARIABLES:
                yield " " + self.grammar.step.format(n=short, v=variable, chain=f"2 * ( {variable} - 4 ) + 3 = 7")


def load_template(context: str | Path = "zoo", frames: str | Path = "english") -> Template:
    """The template of a context and frames, by name or by the path of a TOML file.

    Raises:
        TemplateError: there is no such file, or it is malformed or ambiguous.
    """
    return _load_template(str(context), str(frames))


def known_contexts() -> tuple[str, ...]:
    """The names of the contexts that come with gsm_lab."""
    return tuple(sorted(path.stem for path in (_HOME / "contexts").glob("*.toml")))


def known_frames() -> tuple[str, ...]:
    """The names of the frames that come with gsm_lab."""
    return tuple(sorted(path.stem for path in (_HOME / "frames").glob("*.toml")))


@lru_cache(maxsize=128)
def _load_template(context: str, frames: str) -> Template:
    nouns, context_path = _read("contexts", context)
    words, frames_path = _read("frames", frames)
    try:
        template = Template(
            context=str(nouns["name"]),
            frames=str(words["name"]),
            category=tuple((key, nouns["category"][key]) for key in ("many", "short")),
            places=tuple(tuple((key, place[key]) for key in ("name", "short")) for place in nouns["places"]),
            items=tuple(tuple((key, item[key]) for key in ("one", "many", "short")) for item in nouns["items"]),
            capitalise=bool(words["capitalise"]),
            patterns=tuple(
                (f"{table}.{key}", str(text))
                for table in ("names", "short_names", "list", "facts", "prompt")
                for key, text in words[table].items()
            ),
            grammar=TraceGrammar(**words["trace"]),
        )
    except (KeyError, TypeError) as error:
        raise TemplateError(
            f"{context_path.name} with {frames_path.name} lacks or misplaces {error}: "
            f"compare it with {_HOME.name}/contexts/zoo.toml and {_HOME.name}/frames/english.toml."
        ) from error
    _check(template, words)
    return template


def _read(kind: str, name: str) -> tuple[dict[str, Any], Path]:
    path = Path(name) if name.endswith(".toml") else _HOME / kind / f"{name}.toml"
    if not path.is_file():
        known = known_contexts() if kind == "contexts" else known_frames()
        raise TemplateError(
            f"there are no {kind} {name!r}: give one of {', '.join(known)}, or the path of a TOML file."
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path.name} is not valid TOML ({error}): mend that line.") from error


def _check(template: Template, words: Mapping[str, Any]) -> None:
    """Enough nouns, no ambiguous ones, and every pattern there with its slots."""
    if len(template.places) < PLACES or len(template.items) < ITEMS:
        raise TemplateError(
            f"context {template.context!r} has {len(template.places)} places and {len(template.items)} items: "
            f"give at least {PLACES} and {ITEMS}, so that every problem can be told in it."
        )
    nouns = [text for group in (*template.places, *template.items, template.category) for _, text in group]
    for noun in nouns:
        if not noun or _FORBIDDEN & set(noun) or noun != " ".join(noun.split()):
            raise TemplateError(f"the noun {noun!r} of {template.context!r} is empty or holds a mark of the grammar.")
    for names in (template.name, template.short_name):
        every = [names(place, item) for place, item in _all_quantities(template)]
        doubles = sorted({name for name in every if every.count(name) > 1})
        if doubles:
            raise TemplateError(f"{template.context!r} gives two quantities the name {doubles[0]!r}: rename a noun.")
    _check_solutions(template)
    missing = [kind for kind in FACTS if f"facts.{kind}" not in template.pattern]
    if missing:
        raise TemplateError(f"frames {template.frames!r} lack the facts {missing}: add their patterns.")
    if bool(words["variables"]) != template.grammar.has_variables:
        raise TemplateError(
            f"frames {template.frames!r} say variables = {words['variables']}, but their step pattern says otherwise: "
            f"use {{v}} in trace.step exactly if variables = true."
        )


def _check_solutions(template: Template) -> None:
    """Every name must come back from a written plan and a written step as the same name."""
    grammar = template.grammar
    for place, item in _all_quantities(template):
        name = template.short_name(place, item)
        variable = "k" if grammar.has_variables else name
        statements: list[Statement] = [
            Plan(name, Binary("+", 2, name)),
            Step(name, variable, (Binary("-", name, 2), 3)),
        ]
        if read_trace(write_trace(statements, grammar), grammar) != statements:
            raise TemplateError(
                f"in {template.context!r} with {template.frames!r} a solution that speaks of {name!r} cannot be read: "
                f"give a shorter noun, or one word where the frames have no letters for quantities."
            )


def _all_quantities(template: Template) -> Iterator[tuple[int, int | None]]:
    return itertools.product(range(len(template.places)), [None, *range(len(template.items))])


@lru_cache(maxsize=32)
def name_patterns(template: Template) -> tuple[re.Pattern[str], Mapping[str, tuple[int, int | None]]]:
    """A regular expression that finds quantities as facts call them, and what each name (lower-case first) means."""
    meaning = {template.name(place, item): (place, item) for place, item in _all_quantities(template)}
    longest_first = sorted(meaning, key=len, reverse=True)
    return re.compile("|".join(re.escape(name) for name in longest_first)), meaning
