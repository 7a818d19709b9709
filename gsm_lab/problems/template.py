"""Contexts (nouns) and frames (sentence patterns), read from TOML; a context with frames is a template.

How far two templates are apart has names (`distance`): "same"; "nouns", where only the context differs; "frames", where
the sentence patterns do, whatever the nouns; "language", where even the language does.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from gsm_lab.errors import TemplateError
from gsm_lab.problems.grammar import VARIABLES, TraceGrammar, slots_in
from gsm_lab.problems.graph import Operation, Quantity
from gsm_lab.problems.making import new_tuple
from gsm_lab.problems.phrase import Phrase, phrase_of
from gsm_lab.problems.spec import ITEMS, PLACES

_HOME = Path(__file__).parent
DISTANCES = ("same", "nouns", "frames", "language")
KINDS = ("quantity", "total", "rate", "yield")
PATTERNS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "names": dict.fromkeys(KINDS, frozenset()),
    "short_names": dict.fromkeys(KINDS, frozenset()),
    "list": dict.fromkeys(("pair", "middle", "last"), frozenset()),
    "groups": {"sum": frozenset({"list"}), "net": frozenset({"plus", "minus"})},
    "facts": {
        "constant": frozenset("xc"),
        "copy": frozenset("xg"),
        "sum": frozenset({"x", "list"}),
        "difference": frozenset({"x", "plus", "minus"}),
        "plus": frozenset("xcg"),
        "minus": frozenset("xcg"),
        "times": frozenset("xcg"),
        "divided": frozenset("xcg"),
        "unknown": frozenset("x"),
        "given": frozenset("xc"),
    },
    "prompt": {
        "modulus": frozenset("m"),
        **{f"{kind}_question": frozenset() for kind in KINDS},
        "total_rule": frozenset(),
        "yield_rule": frozenset(),
        "fact_end": frozenset(),
    },
}
"""Every pattern that frames must have, with the slots that it must have beside nouns."""
_FORBIDDEN = set("=<>:;.?()+*/-{}0123456789\n\t")
"""Marks that the grammar of texts and solutions uses; a noun may hold none of them."""
_KIND_OF = {
    Operation.CONSTANT: "constant",
    Operation.COPY: "copy",
    Operation.SUM: "sum",
    Operation.DIFFERENCE: "difference",
    Operation.PLUS: "plus",
    Operation.MINUS: "minus",
    Operation.TIMES: "times",
    Operation.DIVIDED: "divided",
}
_SLOTS = ("x", "c", "g", "plus", "minus")
"""The order in which the slots of facts and groups are filled; a list is a group."""
_MOST_REMEMBERED = 400
"""Where there are more names than this, those of one text are forgotten after it."""
Nouns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Template:
    """Everything that turns quantities into words; made by `load_template`."""

    context: str
    frames: str
    language: str
    category: Nouns
    part: Nouns
    places: tuple[Nouns, ...]
    items: tuple[Nouns, ...]
    capitalise: bool
    joiner: str
    """What stands between two sentences."""
    patterns: tuple[tuple[str, str], ...]
    """Every pattern of the frames file, as ("facts.sum", "{x} equals ...")."""
    grammar: TraceGrammar

    @cached_property
    def pattern(self) -> Mapping[str, str]:
        """Patterns by their names."""
        return dict(self.patterns)

    def limited(self, places: int, items: int) -> "Template":
        """The same template with its first so many places and items only."""
        return _limited(self, places, items)

    @property
    def plain(self) -> "Template":
        """The template with the ten places and ten items that every context has, if it has them."""
        return _limited(self, min(PLACES, len(self.places)), min(ITEMS, len(self.items)))

    @cached_property
    def names(self) -> "_Names":
        """The names that facts use, by quantity."""
        return _Names(self, "names.{}")

    @cached_property
    def first_names(self) -> "_Names":
        """The same names as they begin a sentence."""
        return _Names(self, "names.{}", self.capitalised)

    @cached_property
    def short_names(self) -> "_Names":
        """The names that solutions use, by quantity."""
        return _Names(self, "short_names.{}")

    @cached_property
    def questions(self) -> "_Names":
        """The sentences that ask for quantities."""
        return _Names(self, "prompt.{}_question")

    def in_words(self, pattern: str, quantity: Quantity | None) -> str:
        """A pattern with the nouns of a quantity in its slots; None leaves all but category and part empty."""
        nouns = {"category" if key == "many" else f"category_{key}": text for key, text in self.category}
        nouns |= {"part" if key == "many" else f"part_{key}": text for key, text in self.part}
        if quantity is not None:
            nouns |= {"place_number": str(quantity.place), "item_number": str(quantity.item)}
            nouns |= {"place" if key == "name" else f"place_{key}": text for key, text in self.places[quantity.place]}
            if quantity.item is not None:
                nouns |= {key if key != "short" else "item_short": text for key, text in self.items[quantity.item]}
        return pattern.format(**nouns)

    def rule(self, kind: str) -> str:
        """The sentence that says what a "total" or a "yield", which is a nested total, counts."""
        return self.sentence(self.in_words(self.pattern[f"prompt.{kind}_rule"], None))

    @cached_property
    def facts(self) -> Mapping[Operation, tuple[Phrase, bool]]:
        """For every stated operation, what `x, c, g, plus, minus` are put into, and whether x begins it."""
        return {operation: self.phrase(f"facts.{kind}") for operation, kind in _KIND_OF.items()}

    @cached_property
    def groups(self) -> tuple[Phrase, Phrase]:
        """What says a sum, and a net of two; the slots are those of facts."""
        return self.phrase("groups.sum")[0], self.phrase("groups.net")[0]

    @cached_property
    def unknown_fact(self) -> tuple[Phrase, bool]:
        """What says that x is not known."""
        return self.phrase("facts.unknown")

    @cached_property
    def given_fact(self) -> tuple[Phrase, bool]:
        """What says that x, which has a definition, is known to be c."""
        return self.phrase("facts.given")

    def phrase(self, name: str) -> tuple[Phrase, bool]:
        """A pattern that `x, c, g, plus, minus` are put into, and whether x begins it; facts end as sentences do."""
        pattern = self.pattern[name]
        is_fact = name.startswith("facts.")
        if is_fact:
            pattern += self.pattern["prompt.fact_end"]
        x_first = pattern.startswith("{x}")
        if is_fact and not x_first:
            pattern = self.capitalised(pattern)
        return phrase_of(pattern.replace("{list}", "{g}"), _SLOTS), x_first

    def words(self, num_places: int, place_by: int, item_by: int) -> "Words":
        """What quantities are called where every place, of so many, and every item is moved on by a number."""
        if num_places * len(self.items) > _MOST_REMEMBERED:
            return Words(self, num_places, place_by, item_by)
        key = (num_places, place_by, item_by)
        known = self._words.get(key)
        if known is None:
            known = self._words[key] = Words(self, *key)
        return known

    @cached_property
    def _words(self) -> dict[tuple[int, int, int], "Words"]:
        return {}

    def modulus_sentence(self, modulus: int) -> str:
        """The sentence that says by what everything is counted."""
        return self.sentence(self.pattern["prompt.modulus"].format(m=modulus))

    def sentence(self, text: str) -> str:
        """A fact as a sentence: its first letter and its end mark."""
        return self.capitalised(text) + self.pattern["prompt.fact_end"]

    def capitalised(self, text: str) -> str:
        """The text as it begins a sentence."""
        return text[0].upper() + text[1:] if self.capitalise and text else text

    def listing(self, names: Sequence[str]) -> str:
        """`A and B`, or `A, B, and C`."""
        if len(names) < 3:
            return self._pair.join(names)
        return self.pattern["list.middle"].join(names[:-1]) + self.pattern["list.last"] + names[-1]

    @cached_property
    def _pair(self) -> str:
        return self.pattern["list.pair"]

    def quantities(self) -> Iterator[Quantity]:
        """All that can be spoken of."""
        for place in range(len(self.places)):
            for item in (None, *range(len(self.items))):
                yield Quantity(place, item)
                yield Quantity(place, item, True)

    def distance(self, other: "Template") -> str:
        """How far apart the two are: one of `DISTANCES`."""
        if self.language != other.language and "any" not in (self.language, other.language):
            return "language"
        if self.frames != other.frames:
            return "frames"
        return "same" if self.context == other.context else "nouns"

    def pieces(self) -> Iterator[str]:
        """Strings that between them hold every word, digit and mark, in every spacing, that a rendering can hold."""
        for quantity in self.quantities():
            for name in (self.names[quantity], self.first_names[quantity], self.short_names[quantity]):
                yield from (name, " " + name)
            yield " " + self.questions[quantity]
            yield self.questions[quantity]
        name, short = self.names[Quantity(0, 0)], self.short_names[Quantity(0, 0)]
        names = self.listing([name] * 3)
        texts = [pattern.format(x=name, c="7", g=name, list=names, plus=name, minus=name, m="12")
                 for kind, pattern in self.patterns
                 if kind.startswith(("facts.", "groups.")) or kind == "prompt.modulus"]  # fmt: skip
        texts += [self.listing([name] * 2), self.in_words(self.pattern["prompt.total_rule"], None),
                  self.in_words(self.pattern["prompt.yield_rule"], None)]  # fmt: skip
        for text in texts:
            yield from (self.sentence(text), " " + self.sentence(text), text, " " + text)
        expression = f"2 + 3 * ( {short} - 4 ) / 5"
        yield from self.grammar.pieces(short, expression)
        if self.grammar.has_variables:
            for variable in VARIABLES[:53]:
                yield from (variable, " " + variable)
                yield from self.grammar.pieces(short, expression, variable)

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold and `from_dict` reads back."""
        return asdict(self)

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> "Template":
        """The template that `to_dict` wrote, maybe through JSON."""

        def tuples(part: Any) -> Any:
            return tuple(map(tuples, part)) if isinstance(part, list | tuple) else part

        own = {key: tuples(part) for key, part in value.items() if key != "grammar"}
        return Template(**own, grammar=TraceGrammar(**value["grammar"]))


@lru_cache(maxsize=256)
def _limited(template: Template, places: int, items: int) -> Template:
    if places > len(template.places) or items > len(template.items):
        raise TemplateError(
            f"{places} places and {items} items are wanted, {template.context!r} has {len(template.places)} and "
            f"{len(template.items)}: lower the settings, or add nouns (further_places give many places)."
        )
    if places == len(template.places) and items == len(template.items):
        return template
    return replace(template, places=template.places[:places], items=template.items[:items])


class _Names(dict[Quantity, str]):
    """Names by quantity, or questions, made when they are first asked for; `pattern` names theirs, but for the kind."""

    def __init__(self, template: Template, pattern: str, change: Callable[[str], str] = str) -> None:
        super().__init__()
        self.template, self.pattern, self.change = template, pattern, change

    def __missing__(self, quantity: Quantity) -> str:
        pattern = self.template.pattern[self.pattern.format(kind_of(quantity))]
        name = self[quantity] = self.change(self.template.in_words(pattern, quantity))
        return name


class Words:
    """What quantities are called where every place and every item is moved on by a number; made when first needed."""

    def __init__(self, template: Template, num_places: int, place_by: int, item_by: int) -> None:
        self.template = template
        self.num_places, self.place_by, self.item_by = num_places, place_by, item_by
        self.known: dict[Quantity, tuple[str, str, str]] = {}
        """What `names` has given before."""
        self._questions: dict[Quantity, str] = {}

    def moved(self, quantity: Quantity) -> Quantity:
        """The quantity whose nouns stand for this one."""
        place, item, each = quantity
        moved_item = None if item is None else (item + self.item_by) % len(self.template.items)
        return new_tuple(Quantity, ((place + self.place_by) % self.num_places, moved_item, each))

    def names(self, quantity: Quantity) -> tuple[str, str, str]:
        """What a quantity is called: as a sentence begins, within it, and in solutions."""
        names = self.known.get(quantity)
        if names is None:
            template, moved = self.template, self.moved(quantity)
            names = (template.first_names[moved], template.names[moved], template.short_names[moved])
            self.known[quantity] = names
        return names

    def question(self, quantity: Quantity) -> str:
        """The sentence that asks for a quantity."""
        question = self._questions.get(quantity)
        if question is None:
            question = self._questions[quantity] = self.template.questions[self.moved(quantity)]
        return question


def kind_of(quantity: Quantity) -> str:
    """Which of `KINDS` a quantity is."""
    if quantity.each:
        return "yield" if quantity.item is None else "rate"
    return "total" if quantity.item is None else "quantity"


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
    from gsm_lab.problems.vocabulary import check_template  # reads templates

    template = read_template(context, frames)
    check_template(template.plain)
    return template


def read_template(context: str | Path, frames: str | Path) -> Template:
    """The template of two files as they are, ambiguous or not.

    Raises:
        TemplateError: there is no such file, or something is missing or misplaced in it.
    """
    nouns, context_path = _read("contexts", str(context))
    words, frames_path = _read("frames", str(frames))
    try:
        name, language = str(nouns["name"]), str(words["language"])
        own = _nouns_in(nouns, words, language, context_path, frames_path)
        template = Template(
            context=name,
            frames=_text(words["name"], "name"),
            language=language,
            category=_nouns_of(own["category"], ("many", "short")),
            part=_nouns_of(own["part"], ("many", "short")),
            places=tuple(_nouns_of(place, ("name", "short")) for place in own["places"])
            + _further_places(
                own.get("further_places"), str(nouns.get("language", "en")) if own is nouns else language
            ),
            items=tuple(_nouns_of(item, ("one", "many", "short")) for item in own["items"]),
            capitalise=bool(words["capitalise"]),
            joiner=str(words["joiner"]),
            patterns=tuple(
                (f"{table}.{key}", _text(words[table][key], f"{table}.{key}"))
                for table in PATTERNS
                for key in PATTERNS[table]
            ),
            grammar=TraceGrammar(joiner=str(words["joiner"]), **words["trace"]),
        )
    except (KeyError, TypeError) as error:
        raise TemplateError(
            f"{context_path.name} with {frames_path.name} lacks or misplaces {error}: "
            f"compare it with {_HOME.name}/contexts/zoo.toml and {_HOME.name}/frames/english.toml."
        ) from error
    _check_patterns(template, words)
    return template


def _nouns_of(words: Mapping[str, Any], keys: Sequence[str]) -> Nouns:
    return tuple((key, _text(words[key], key)) for key in keys)


def _nouns_in(
    nouns: Mapping[str, Any], words: Mapping[str, Any], language: str, context_path: Path, frames_path: Path
) -> Mapping[str, Any]:
    """The nouns in the language of the frames: the context's own, or those that the frames bring for it."""
    if language in ("any", nouns.get("language", "en")):
        return nouns
    brought: Mapping[str, Mapping[str, Any]] = words.get("nouns", {})
    if nouns["name"] in brought:
        return brought[nouns["name"]]
    raise TemplateError(
        f"{frames_path.name} speaks {language!r} and {context_path.name} has nouns in {nouns.get('language', 'en')!r}: "
        f"write a context in {language!r} (language = {language!r}), or add nouns.{nouns['name']} to the frames."
    )


def _further_places(words: Mapping[str, Sequence[str]] | None, language: str) -> tuple[Nouns, ...]:
    """Names made of a first and a second word, neighbours in the row alike in neither."""
    if words is None:
        return ()
    first, second = words["first"], words["second"]
    space = "" if language == "zh" else " "
    return tuple(
        (("name", f"{one}{space}{other}"), ("short", f"{one}{other}".lower()))
        for turn in range(len(second))
        for number, one in enumerate(first)
        for other in (second[(turn + number) % len(second)],)
    )


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


def _text(value: Any, where: str) -> str:
    """A noun or a pattern as it must be: text."""
    if type(value) is not str:
        raise TemplateError(f"{where} is {value!r}: write text in quotation marks.")
    return value


def _check_patterns(template: Template, words: Mapping[str, Any]) -> None:
    """Every pattern with its slots, and no others."""
    known_nouns = {"one", "many", "item_short", "item_number", "place", "place_short", "place_number"}
    known_nouns |= {"category", "category_short", "part", "part_short"}
    for table, kinds in PATTERNS.items():
        for kind, wanted in kinds.items():
            pattern = template.pattern[f"{table}.{kind}"]
            slots = slots_in(f"{table}.{kind}", pattern)
            allowed = wanted | (known_nouns if table in ("names", "short_names", "prompt") else set())
            if kind == "modulus":
                allowed = frozenset("m")
            if not wanted <= slots <= allowed:
                raise TemplateError(
                    f"frames {template.frames!r}: {table}.{kind} = {pattern!r} has the slots {sorted(slots)}: "
                    f"it needs {sorted(wanted)} and may have {sorted(allowed)}."
                )
    if not template.pattern["prompt.fact_end"]:
        raise TemplateError(
            f"frames {template.frames!r}: prompt.fact_end is empty: give the mark that ends a sentence."
        )
    for key in ("variables", "capitalise"):
        if type(words[key]) is not bool:
            raise TemplateError(f"frames {template.frames!r}: {key} = {words[key]!r}: write true or false.")
    if bool(words["variables"]) != template.grammar.has_variables:
        raise TemplateError(
            f"frames {template.frames!r} say variables = {words['variables']}, but their step pattern says otherwise: "
            f"use {{v}} in trace.step exactly if variables = true."
        )


def forbidden_marks(noun: str) -> set[str]:
    """The characters of a noun that the grammar of texts and solutions needs for itself."""
    return _FORBIDDEN & set(noun)
