"""Reads solutions as a fair teacher does: by the grammar of traces if that is possible, else as what was meant.

What had to be overlooked is named: other signs, marks of layout, unit words, capital letters, other lead-in words. The
result is the same statements that `trace` knows, with their places in the text. Time is linear in the text: every
pattern runs over a short piece, once, and texts with too many pieces are not read at all.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial

from gsm_lab.problems.trace import (
    ANSWER,
    END_ANSWER,
    END_THINK,
    MOST_CHARACTERS,
    MOST_DIGITS,
    THINK,
    Answer,
    Binary,
    Expression,
    Malformed,
    Prose,
    Statement,
    Step,
    TraceGrammar,
    read_statement,
    read_whole,
    statement_ends,
    statement_from,
)

MOST_PIECES = 20_000
"""A text with more pieces than this is no solution."""
MOST_LINES = 1000
"""Nor are there more lines than this in one piece of it."""
LAYOUT, SIGNS, UNITS, SEPARATORS = "marks of layout", "other signs", "unit words", "thousands separators"
DECIMALS, WORDING, PRODUCTS, TAGS = "decimals", "other wording", "products without a sign", "other tags"
PROSE = "words beside the steps"
_ODD = re.compile(r"[^\x00-\x7f]|\*\*|__|[`$\\]|^(?:[-*]|[0-9]{1,3}[.)]|#{1,6}) ")
"""What the grammar never has: worth a closer look before the grammar's own patterns take it for a name."""
_TIMES, _DIVIDE, _MINUS = "\u00d7\u00b7\u22c5\u2219\u2715\u2217\uff0a", "\u00f7\u2215\uff0f", "\u2212\u2013\uff0d"
_SIGN_TABLE = {ord(sign): "*" for sign in _TIMES} | {ord(sign): "/" for sign in _DIVIDE}
_SIGN_TABLE |= {ord(sign): "-" for sign in _MINUS} | {0xFF1D: "=", 0xFF0B: "+", 0xFF08: "(", 0xFF09: ")"}
_SIGN_TABLE |= {0xFF10 + digit: str(digit) for digit in range(10)}
_LATEX = {r"\times": "*", r"\cdot": "*", r"\div": "/", r"\(": "", r"\)": "", r"\[": "", r"\]": ""}
_MARKS_BETWEEN = ";,:\uff1b\uff0c\uff1a"
_MARKS = re.compile(r"\*\*|__|[`$]")
_BULLET = re.compile(r"(?:[-*\u2022]+ |[0-9]{1,3}[.)] |#{1,6} (?![0-9]))+")
_NUMBERING = re.compile(r"#{0,6} ?(?:step |part )?([0-9]{1,3})[.):]?", re.I)
_LEAD_IN = re.compile(
    r"(?:(?:step [0-9]{1,3}|first|second|third|next|then|now|finally|also|and|so|thus|therefore)(?:[,:.] | - | ))+",
    re.I,
)
_ANSWER = re.compile(
    r"(?:(?:so|thus|therefore|hence),? )?(?:the )?(?:final )?answer(?: is)?[ :=]{1,3}(?P<value>.{1,100})"
    r"|#{2,6} ?(?P<hashed>.{1,100})|\\boxed ?\{(?P<boxed>[^{}]{1,100})\}"
    r"|(?:最终|最后)?答案?(?:是|为)?[:\uff1a]? ?(?P<said>.{1,100})",
    re.I,
)
_OTHER_ENGLISH = tuple(
    (kind, re.compile(pattern, re.I))
    for kind, pattern in (
        (
            "unknown",
            r"(?:define|let) (?P<n>[^=<>:;?]{1,200}?) (?:as|be) (?P<v>[^\W\d]\w{0,60})[;,] "
            r"[^\d=]{0,100}\b(?:know|find)[^\d=]{0,100}",
        ),
        (
            "given",
            r"(?:we )?know (?:that )?(?P<n>[^=<>:;?]{1,200}?) (?:=|is|equals) (?P<value>[0-9][0-9,.]{0,20}?)[,;] so "
            r"(?:we have )?(?P<equation>[^<>:;?]{1,1000}?)(?: and we .{0,200})?",
        ),
        ("solve", r"[a-z][a-z ]{0,60}(?: by [0-9]{1,9})?: (?P<equation>[^<>:;?]{1,1000})"),
        (
            "solve",
            r"(?:so|then|thus|therefore|hence|that means|this gives|we get),? (?P<equation>[^<>:;?]{1,1000})",
        ),
    )
)
"""How others say that something is unknown, is given, or follows."""
_ANSWER_WORDS = frozenset(
    {"", "answer", "answer is", "the answer", "the answer is", "final answer", "the final answer"}
)
_NUMBER = re.compile(r"([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12})(?:\.([0-9]{1,12}))?")
_PRODUCT = re.compile(r"([0-9]+)([^\W\d_].*)")
_ASSIGNMENT = re.compile(r"([^\W\d]\w{0,60}) ?= ?([^<>:;?]{1,4000})")
_PROSE = re.compile(r"[^\d=+*/<>()#]{1,400}")
_TELLING = """zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million dozen half
double twice triple no not never nor wrong incorrect mistake mistaken false guess maybe perhaps more less fewer than
equals equal plus minus times sum product difference total as many answer"""
_TELLING_WORDS = frozenset(_TELLING.split())
"""Words with which a sentence without a number may say something about one."""
_IS_ONE = re.compile(r"\b(?:is|are|be|was|were|has|have|makes|gives) (?:only |just )?one\b", re.I)
_NUMBERS_IN_CHINESE = frozenset("零一二两三四五六七八九十百千万亿半倍不非没错共多少")
_UNIT_WORDS = re.compile(r"\s*[^\W\d_]+(?:[ ,-]{1,2}[^\W\d_]+){0,12}")
_IMPLIED = re.compile(r"(?<=[\w)])\s*(?=\()|(?<=\))\s*(?=\w)")
MOST_UNITS = 80
"""Characters of the words behind a number."""
_TAGS = re.compile("|".join((THINK, END_THINK, ANSWER, END_ANSWER)))


@dataclass(frozen=True)
class Piece:
    """A statement, where it stands, and what had to be overlooked to read it."""

    start: int
    end: int
    """First character, and the one behind the last."""
    statement: Statement
    deviations: tuple[str, ...] = ()
    is_continued: bool = False
    """Whether a calculation within the same step stands before it."""


@dataclass(frozen=True)
class _How:
    """By which grammar to read, and the words that may stand behind a number."""

    grammar: TraceGrammar
    units: frozenset[str]

    def is_unit(self, text: str) -> bool:
        """Whether what stands behind a number is words that tell what is counted."""
        if len(text) > MOST_UNITS or not _UNIT_WORDS.fullmatch(text):
            return False
        words = re.split(r"[ ,-]+", text.strip().casefold())
        return self.units.issuperset(words) and all(len(word) > 1 or not word.isascii() for word in words)


def read_freely(
    text: str, grammar: TraceGrammar, form: str = "steps", units: frozenset[str] = frozenset()
) -> list[Piece] | None:
    """The statements of a text of any kind, or None if it is too long to be a solution.

    `units` are the words that may stand behind a number, in small letters.
    """
    if len(text) > MOST_CHARACTERS or text.count("\n") > MOST_PIECES:
        return None
    how = _How(grammar, units)
    tags = list(_TAGS.finditer(text)) if "<" in text else []
    if form == "think" or tags:
        pieces = _read_tagged(text, [(tag.group(), tag.start(), tag.end()) for tag in tags], how, form)
    else:
        pieces = _read_span(text, 0, len(text), how)
    return None if pieces is None else _checked(sorted(pieces, key=lambda piece: piece.start))


def _read_span(text: str, start: int, end: int, how: _How) -> list[Piece] | None:
    pieces: list[Piece] = []
    for number, (first, last) in enumerate(_spans(text, start, end, how.grammar.statement_end)):
        if number >= MOST_PIECES:
            return None
        pieces += _read_piece(text, first, last, how)
    return pieces


def _spans(text: str, start: int, end: int, mark: str) -> Iterator[tuple[int, int]]:
    """Where the statements of a text lie, without the marks that end them."""
    for found in statement_ends(mark).finditer(text, start, end):
        yield start, found.start()
        start = found.end()
    yield start, end


def _read_piece(text: str, start: int, end: int, how: _How) -> list[Piece]:
    """The statement between two places; several, if it holds several lines and cannot be read in one."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start == end:
        return []
    raw = text[start:end]
    piece = " ".join(raw.split())
    statement, deviations = _statement(piece, how)
    if not isinstance(statement, Malformed):
        return [Piece(start, end, statement, deviations)]
    if piece in "-*\u2022":
        return []
    if _NUMBERING.fullmatch(piece):
        return [Piece(start, end, Prose(piece))]
    if ";" in piece and (clauses := _with_clauses(piece, how)):
        ends = [start + at for at, sign in enumerate(raw) if sign == ";"][1:]
        begins = zip([start, *ends], [*ends, end], clauses, strict=False)
        return [Piece(begin, stop, *one, number > 0) for number, (begin, stop, one) in enumerate(begins)]
    if 0 < raw.count("\n") <= MOST_LINES:
        found: list[Piece] = []
        at = start
        for line in raw.split("\n"):
            found += _read_piece(text, at, at + len(line), how)
            at += len(line) + 1
        return found
    if is_prose(piece):
        return [Piece(start, end, Prose(piece), (PROSE,))]
    return [Piece(start, end, statement, ())]


def is_prose(text: str) -> bool:
    """Whether words hold no number, sign or word that could say something about a quantity."""
    if not _PROSE.fullmatch(text) or _IS_ONE.search(text) or not _NUMBERS_IN_CHINESE.isdisjoint(text):
        return False
    words = re.findall(r"[^\W\d_]+", text)
    is_plain = all(len(word) > 1 or word in "aAI" or not word.isascii() for word in words)
    return bool(words) and is_plain and _TELLING_WORDS.isdisjoint(text.casefold().split()) and "_" not in text


def _checked(pieces: list[Piece]) -> list[Piece]:
    """The pieces without numbers that count statements from 1; other numbers, and words after an answer, are wrong."""
    result: list[Piece] = []
    expected, is_answered = 1, False
    for at, piece in enumerate(pieces):
        statement = piece.statement
        is_answered = is_answered or isinstance(statement, Answer)
        if isinstance(statement, Prose):
            number = _NUMBERING.fullmatch(statement.text)
            if number is not None and int(number[1]) == expected and at + 1 < len(pieces) and not is_answered:
                expected += 1
                continue
            if number is not None or is_answered:
                piece = Piece(piece.start, piece.end, Malformed(statement.text))
        result.append(piece)
    return result


def _statement(piece: str, how: _How) -> tuple[Statement, tuple[str, ...]]:
    """One statement and what had to be overlooked."""
    notes: dict[str, None] = {}
    is_odd = _ODD.search(piece) is not None
    if not is_odd:
        statement = read_statement(piece, how.grammar)
        if not _needs_help(statement):
            return statement, ()
    plain = _plain(piece, how.grammar.statement_end, notes)
    if plain and (is_odd or plain != piece):
        statement = read_statement(plain, how.grammar)
        if not _needs_help(statement):
            return statement, tuple(notes)
    if len(plain) <= 5000 and (meant := _meant(plain, how, notes)) is not None:
        return meant, tuple(notes)
    return Malformed(piece), ()


def _with_clauses(piece: str, how: _How) -> list[tuple[Statement, tuple[str, ...]]]:
    """A step with calculations of its own between its head and its chain: `Define X as k; t = a + b = 5; so k = ...`.

    First the calculations, each a step about a letter, then the step; nothing if there are none.
    """
    head, *middle, last = piece.split(";")
    if not middle or len(middle) > 64:
        return []
    step, notes = _statement(f"{head};{last}", how)
    if not isinstance(step, Step):
        return []
    found: list[tuple[Statement, tuple[str, ...]]] = []
    for clause in middle:
        assignment = _ASSIGNMENT.fullmatch(clause.strip())
        slots = {"n": assignment[1], "chain": assignment[2]} if assignment else {}
        own: dict[str, None] = {}
        statement = statement_from("step", slots, partial(_operand, how, own)) if assignment else None
        if statement is None:
            return []
        found.append((statement, tuple(own)))
    return [*found, (step, notes)]


def _needs_help(statement: Statement) -> bool:
    if isinstance(statement, Step):  # where steps have few words of their own, an answer looks like one
        return statement.name.casefold().strip("# ") in _ANSWER_WORDS
    return isinstance(statement, Malformed) or (isinstance(statement, Answer) and statement.value is None)


def _plain(piece: str, end: str, notes: dict[str, None]) -> str:
    """The piece without marks of layout, with the signs of the grammar."""
    text = piece.translate(_SIGN_TABLE)
    for old, new in _LATEX.items() if "\\" in text else ():
        text = text.replace(old, new)
    if text != piece:
        notes[SIGNS] = None
    plain = _MARKS.sub("", text).strip()
    if bullet := _BULLET.match(plain):
        plain = plain[bullet.end() :]
    plain = " ".join(plain.split()).removesuffix(end).rstrip()
    if plain != text:
        notes[LAYOUT] = None
    return plain


def _meant(text: str, how: _How, notes: dict[str, None]) -> Statement | None:
    """The statement that a text means though the grammar has it otherwise."""
    asked = _ANSWER.fullmatch(text)
    if asked is not None:
        seen = dict(notes)
        value = _number_with_words(next(filter(None, asked.groups()), ""), how, seen)
        if value is not None:
            is_usual = _loose_patterns(how.grammar)[-1][1].fullmatch(text) is not None and seen
            notes.update(seen if is_usual else seen | {WORDING: None})
            return Answer(value)
    lead = _LEAD_IN.match(text)
    short = text[lead.end() :] if lead else text
    for kind, pattern in (*_loose_patterns(how.grammar), *_OTHER_ENGLISH):
        for one in dict.fromkeys((text, short)):
            found = pattern.fullmatch(one)
            if found is None:
                continue
            seen = dict(notes)
            statement = _from_slots(kind, found, one, how, seen)
            if statement is not None:
                notes.update(seen)
                return statement
    return None if asked is None else Answer(None)


def _from_slots(kind: str, found: re.Match[str], text: str, how: _How, notes: dict[str, None]) -> Statement | None:
    slots = dict(found.groupdict())
    if any(letter != slots["v"] for slot, letter in slots.items() if slot[0] == "v" and slot != "value"):
        return None
    if kind == "answer":
        value = _number_with_words(slots["value"] or "", how, notes)
        return None if value is None else Answer(value)
    if slots.get("value"):
        number = _number_with_words(slots["value"] or "", how, notes)
        if number is None:
            return None
        slots["value"] = str(number)
    for name in ("chain", "equation", "expression"):
        expression = slots.get(name)
        if expression and "(" in expression and (changed := _IMPLIED.sub(" * ", expression)) != expression:
            notes[PRODUCTS] = None
            slots[name] = changed
    for name in ("chain", "equation"):
        if (links := slots.get(name)) and how.units:
            slots[name] = "=".join(_without_unit(part, how, notes) for part in links.split("="))
    statement = statement_from(kind, slots, partial(_operand, how, notes))
    if not notes:
        notes[WORDING] = None
    return statement


def _without_unit(link: str, how: _How, notes: dict[str, None]) -> str:
    """A link that is a number with a unit word, without it; every other link as it is."""
    found = _NUMBER.match(link.strip())
    if found is None:
        return link
    rest = link.strip()[found.end() :]
    if not rest or rest[0] in "+-*/(" or not how.is_unit(rest):
        return link
    notes[UNITS] = None
    return found[0]


def _operand(how: _How, notes: dict[str, None], token: str) -> Expression | None:
    """A number with separators, decimals or unit words; a number and a name without a sign; or a name."""
    if not token[0].isdigit():
        return token
    product = _PRODUCT.fullmatch(token)
    number = None if product is None else read_whole(product[1])
    if product is not None and number is not None:
        notes[PRODUCTS] = None
        return Binary("*", number, product[2])
    return _number_with_words(token, _How(how.grammar, frozenset()), notes)


def _number_with_words(text: str, how: _How, notes: dict[str, None]) -> int | Fraction | None:
    """A number as people write it, maybe with separators, decimals, layout or unit words; None if it is none."""
    plain = text.strip().strip("*_`$ ").removeprefix("\\(").removesuffix("\\)").removeprefix("=").strip()
    if plain.startswith("\\boxed{") and plain.endswith("}"):
        plain = plain[7:-1].strip()
        notes[LAYOUT] = None
    found = _NUMBER.match(plain)
    if found is None or not plain.isprintable():
        return None
    rest = plain[found.end() :].rstrip(".!。 *_`$")
    if rest and not how.is_unit(rest):
        return None
    digits, decimals = found[1].replace(",", ""), found[2]
    if len(digits) > MOST_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return None
    for name, is_so in (
        (LAYOUT, plain != text.strip()),
        (UNITS, rest),
        (SEPARATORS, "," in found[1]),
        (DECIMALS, decimals),
    ):
        if is_so:
            notes[name] = None
    if not decimals:
        return int(digits)
    number = Fraction(int(digits + decimals), 10 ** len(decimals))
    return number.numerator if number.denominator == 1 else number


@lru_cache(maxsize=64)
def _loose_patterns(grammar: TraceGrammar) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """The grammar's patterns in any case, with any marks between words, and variables of any length."""
    kinds = ("retract", "plan", "unknown", "given", "solve", "check", "step", "answer")
    return tuple((kind, _loose(kind, getattr(grammar, kind).removesuffix(grammar.statement_end))) for kind in kinds)


def _loose(kind: str, pattern: str) -> re.Pattern[str]:
    slots: dict[str, str | Callable[[], str]] = {
        "{n}": r"(?P<n>[^=<>:;?]{1,200}?)",
        "{expression}": r"(?P<expression>[^=<>:;?]{1,2000})",
        "{chain}": r"(?P<chain>[^<>:;?]{1,4000})",
        "{equation}": r"(?P<equation>[^<>:;?]{1,4000})",
        "{value}": r"(?P<value>.{1,100}?)" if kind == "answer" else r"(?P<value>[0-9][0-9,.]{0,20})",
    }
    result = ""
    for part in re.split(r"(\{\w+\}|\w+|[^\w\s])", " ".join(pattern.split())):
        if part == "{v}":
            again = result.count("(?P<v")  # a reference would not tell capital letters apart
            result += rf"(?P<v{again or ''}>[^\W\d]\w{{0,60}})"
        elif part in slots:
            result += str(slots[part])
        elif part.isspace():
            if not result.endswith(r"\s*"):
                result += r"\s*" if result.endswith("?") else r"\s+"
        elif part == "=":
            result = result.removesuffix(r"\s+") + r"\s*=\s*"
        elif part == "so" and kind == "step":
            result += "(?:so|then|thus|hence|therefore)"
        elif part in _MARKS_BETWEEN:
            result += f"[{_MARKS_BETWEEN}]?"
        else:
            result += re.escape(part)
    return re.compile(result, re.IGNORECASE)


def _read_tagged(text: str, tags: list[tuple[str, int, int]], how: _How, form: str) -> list[Piece] | None:
    """`<think> statements </think> <answer> value </answer>`; without tags, or with some left out, what is there."""
    names = [name for name, _, _ in tags]
    if names == [THINK, END_THINK, ANSWER, END_ANSWER]:
        (_, begin, first), (_, last, after), (_, before, opened), (_, closed, end) = tags
    elif names == [THINK, END_THINK, ANSWER]:
        (_, begin, first), (_, last, after), (_, before, opened) = tags
        closed = end = len(text)
    elif names in ([THINK, END_THINK], [ANSWER, END_ANSWER]):
        return _read_half_tagged(text, tags, how)
    elif names:
        return [Piece(0, len(text), Malformed(text[:200]))]
    else:
        return _with_note(_read_span(text, 0, len(text), how), TAGS)
    pieces = _read_span(text, first, last, how)
    if pieces is None:
        return None
    for start, stop in ((0, begin), (after, before), (end, len(text))):
        if text[start:stop].strip():
            pieces.append(Piece(start, stop, Malformed(text[start:stop].strip()[:200])))
    notes: dict[str, None] = {}
    inside = text[opened:closed].strip()
    value: int | Fraction | None = read_whole(inside)
    if value is None and len(inside) <= 200:
        value = _number_with_words(inside, how, notes)
    if form != "think" or len(tags) < 4:
        notes[TAGS] = None
    pieces.append(Piece(opened, closed, Answer(value), tuple(notes)))
    return pieces


def _read_half_tagged(text: str, tags: list[tuple[str, int, int]], how: _How) -> list[Piece] | None:
    """Statements of which only the thoughts, or only the answer, stand in tags."""
    (name, begin, first), (_, last, after) = tags
    spans = [_read_span(text, 0, begin, how), _read_span(text, after, len(text), how)]
    if name == THINK:
        spans.insert(1, _read_span(text, first, last, how))
    else:
        notes: dict[str, None] = {}
        answer = Answer(_number_with_words(text[first:last][:200], how, notes))
        spans.insert(1, [Piece(first, last, answer, tuple(notes))])
    pieces = [piece for span in spans for piece in span or ()]
    return None if None in spans else _with_note(pieces, TAGS)


def _with_note(pieces: list[Piece] | None, note: str) -> list[Piece] | None:
    if not pieces:
        return pieces
    last = pieces[-1]
    return [*pieces[:-1], Piece(last.start, last.end, last.statement, (*last.deviations, note))]
