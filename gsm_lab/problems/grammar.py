"""The grammar of traces: the patterns of statements as a frames file gives them, and what reads them.

It is no part of what is compiled, for a compiled class computes its cached properties every time.
"""

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from gsm_lab.errors import TemplateError
from gsm_lab.problems.phrase import Phrase, phrase_of

FORMS = ("steps", "answer_only", "think")
"""What a completion is: statements; the answer alone; or statements and an answer in tags."""
THINK, END_THINK, ANSWER, END_ANSWER = "<think>", "</think>", "<answer>", "</answer>"
LETTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
VARIABLES = LETTERS + tuple(f"{letter}{digit}" for digit in range(1, 10) for letter in LETTERS)
"""What a solution may call a quantity: a letter, or past 52 quantities a letter with a digit."""
_SLOTS: Mapping[str, tuple[str, ...]] = {
    "plan": ("n", "expression"),
    "step": ("n", "chain"),
    "unknown": ("n",),
    "given": ("n", "value", "equation"),
    "solve": ("equation",),
    "check": ("equation",),
    "retract": (),
    "answer": ("value",),
}
"""The slots that every pattern has; steps and unknowns may have `v` besides."""


def slots_in(name: str, pattern: str) -> set[str]:
    """The slots of a pattern, which `name` names.

    Raises:
        TemplateError: a brace alone, or a slot with more in it than a name.
    """
    try:
        parts = [(slot, form, change) for _, slot, form, change in string.Formatter().parse(pattern)]
    except ValueError as error:
        raise TemplateError(f"{name} = {pattern!r} is no pattern ({error}): write slots as {{x}}.") from error
    if any(slot is not None and (form or change or not slot.isidentifier()) for slot, form, change in parts):
        raise TemplateError(f"{name} = {pattern!r} has a slot with more in it than a name: write slots as {{x}}.")
    return {slot for slot, _, _ in parts if slot is not None}


@dataclass(frozen=True)
class TraceGrammar:
    """The patterns of statements, as a frames file gives them.

    Raises:
        TemplateError: a pattern lacks one of its slots.
    """

    plan: str
    step: str
    unknown: str
    given: str
    solve: str
    check: str
    retract: str
    answer: str
    statement_end: str
    joiner: str = " "
    """What stands between two statements."""

    def __post_init__(self) -> None:
        for kind, wanted in _SLOTS.items():
            pattern = getattr(self, kind)
            if type(pattern) is not str or not pattern:
                raise TemplateError(f"trace.{kind} = {pattern!r}: write text in quotation marks.")
            slots = slots_in(f"trace.{kind}", pattern)
            if missing := sorted(set(wanted) - slots):
                raise TemplateError(f"trace.{kind} = {pattern!r} lacks the slots {missing}: write them in braces.")
            if extra := sorted(slots - set(wanted) - ({"v"} if kind in ("step", "unknown") else set())):
                raise TemplateError(f"trace.{kind} = {pattern!r} has the slots {extra}, which mean nothing there.")
        if not self.statement_end:
            raise TemplateError("trace.statement_end is empty: give the mark that ends a statement.")

    @cached_property
    def has_variables(self) -> bool:
        """Whether a step gives its quantity a letter; otherwise the name serves as the variable."""
        return "{v}" in self.step

    @cached_property
    def phrases(self) -> Mapping[str, Phrase]:
        """The pattern of every kind of statement, to be filled with its slots as `_SLOTS` lists them, `v` last."""
        return {kind: phrase_of(getattr(self, kind), (*slots, "v")) for kind, slots in _SLOTS.items()}

    @cached_property
    def step_words(self) -> Phrase:
        """The pattern of a step as it is read: its spaces single, without the mark that ends it."""
        words = " ".join(self.step.removesuffix(self.statement_end).split())
        return phrase_of(words, (*_SLOTS["step"], "v"))

    @cached_property
    def literal_patterns(self) -> "LiteralPatterns":
        """What reads its steps, plans and unknowns."""
        return _literal_patterns(self)

    @cached_property
    def readers(self) -> tuple["Reader", ...]:
        """What reads its statements, in the order in which they are tried."""
        return _readers(self)

    def pieces(self, name: str, expression: str, variable: str = "") -> Iterator[str]:
        """Strings that hold every word and mark of statements, in every spacing."""
        v = variable or name
        texts = [
            self.plan.format(n=name, expression=expression),
            self.step.format(n=name, v=v, chain=f"{expression} = {v}"),
            self.unknown.format(n=name, v=v),
            self.given.format(n=name, value="12", equation=f"{expression} = {v}"),
            self.solve.format(equation=f"{v} = {expression}"),
            self.check.format(equation=f"{expression} = {v}"),
            self.retract,
        ]
        texts += [self.answer.format(value=2 * str(digit)) for digit in range(10)]
        texts += [f"= {2 * str(digit)}" for digit in range(10)]
        for text in texts:
            yield from (text, " " + text)
        yield f" {THINK} a {END_THINK} {ANSWER} 1 {END_ANSWER}"
        yield f"{THINK} {END_THINK} {ANSWER} {END_ANSWER}"


@lru_cache(maxsize=64)
def statement_ends(mark: str) -> re.Pattern[str]:
    """The mark that ends a statement; a mark of ASCII only before a space, so that it may stand within a number."""
    return re.compile(re.escape(mark) + (r"(?=\s|$)" if mark.isascii() else ""))


@dataclass(frozen=True)
class Reader:
    """One kind of statement: the words it begins and ends with, and its regular expression."""

    kind: str
    head: str
    tail: str
    pattern: re.Pattern[str]


_ENDS_A_NAME = re.compile(r"\{n\}[^=<>:;?{}]*(?:(?<![\w}])\{v\}(?!\w)[^=<>:;?{}]*)*[=<>:;?]", re.ASCII)
"""Words behind a name, up to a mark that no name has, that tell where it ends: longest first finds it soonest."""


def slot_at(number: int, parts: Sequence[str], slot: str) -> str:
    """What fills a slot, part so-and-so of a pattern, without trying what helps no match.

    At the end it gives nothing back. A name before a space and an expression at the end goes up to the first space:
    what does not fit behind that one fits behind none, but for its length.
    """
    match parts[number:]:
        case ["{n}", space, "{chain}" | "{expression}" | "{equation}", ""] if space.isspace():
            return r"(?P<n>[^=<>:;?][^=<>:;?\s]{0,199}+)"
    is_last = number == len(parts) - 2 and not parts[-1]
    return slot.removesuffix("})") + "}+)" if is_last and slot.endswith("})") else slot


@lru_cache(maxsize=64)
def _readers(grammar: TraceGrammar) -> tuple[Reader, ...]:
    """The kinds of statements in the order in which they are tried, without the mark that ends them.

    A step comes last: where it has few words of its own, most statements look like one.
    """
    slots = {
        "{expression}": r"(?P<expression>[^=<>:;?]{1,2000})",
        "{chain}": r"(?P<chain>[^<>:;?]{1,4000})",
        "{equation}": r"(?P<equation>[^<>:;?]{1,4000})",
    }

    def compiled(kind: str) -> Reader:
        body = " ".join(getattr(grammar, kind).removesuffix(grammar.statement_end).split())
        name = r"(?P<n>[^=<>:;?]{1,200})" if _ENDS_A_NAME.search(body) else r"(?P<n>[^=<>:;?]{1,200}?)"
        slots["{value}"] = r"(?P<value>.{1,100})" if kind == "answer" else r"(?P<value>[0-9]{1,20})"
        parts = re.split(r"(\{\w+\})", body)
        seen_variable = False
        result = ""
        for number, part in enumerate(parts):
            if part == "{v}":
                result += "(?P=v)" if seen_variable else r"(?P<v>[A-Za-z]\w{0,30})"
                seen_variable = True
            else:
                result += slot_at(number, parts, name if part == "{n}" else slots.get(part, re.escape(part)))
        return Reader(kind, parts[0], parts[-1], re.compile(result, re.ASCII))

    return tuple(map(compiled, ("answer", "retract", "plan", "unknown", "given", "solve", "check", "step")))


@dataclass(frozen=True)
class LiteralPatterns:
    """What a step, a plan and an unknown look like, read as fast as can be; all of a chain is one group."""

    step: re.Pattern[str]
    plan: re.Pattern[str]
    unknown: re.Pattern[str]


@lru_cache(maxsize=64)
def _literal_patterns(grammar: TraceGrammar) -> LiteralPatterns:
    patterns = {reader.kind: reader.pattern for reader in grammar.readers}
    return LiteralPatterns(patterns["step"], patterns["plan"], patterns["unknown"])
