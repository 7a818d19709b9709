"""Reads solutions as a fair teacher does: by the grammar of traces if that is possible, else as what was meant.

What had to be overlooked is named: other signs, marks of layout, unit words, capital letters, other lead-in words. The
result is the same statements that `trace` knows, with their places in the text. Time is linear in the text: every
pattern runs over a short piece, once, and texts with too many pieces are not read at all.
"""

import re
from fractions import Fraction
from functools import lru_cache, partial

from gsm_lab.problems.grammar import ANSWER, END_ANSWER, END_THINK, THINK, TraceGrammar, statement_ends
from gsm_lab.problems.phrase import fill, single_spaced
from gsm_lab.problems.statements import Answer, Expression, Malformed, Prose, Statement, Step
from gsm_lab.problems.trace import (
    MOST_CHARACTERS,
    read_expression,
    read_statement,
    read_whole,
    statement_from,
    write_chain,
)
from gsm_lab.problems.wording import (
    ANSWER_WORDS,
    ANSWERED,
    IMPLIED,
    LEAD_IN,
    MARKS_BETWEEN,
    NUMBERING,
    OTHER_ENGLISH,
    PRODUCTS,
    PROSE,
    TAGS,
    WORDING,
    How,
    how_of,
    is_odd,
    is_prose,
    number_with_words,
    operand,
    without_layout,
    without_unit,
)

MOST_PIECES = 20_000
"""A text with more pieces than this is no solution."""
MOST_REMEMBERED = 300
"""Characters of a piece that is worth remembering."""
MOST_LINES = 1000
"""Nor are there more lines than this in one piece of it."""
_ASSIGNMENT = re.compile(r"([^\W\d]\w{0,60}) ?= ?([^<>:;?]{1,4000})")
_TAGS = re.compile("|".join((THINK, END_THINK, ANSWER, END_ANSWER)))


class Piece:
    """A statement, where it stands, and what had to be overlooked to read it.

    Attributes:
        start: its first character.
        end: the character behind its last.
        is_continued: whether a calculation within the same step stands before it.
        text: what to compare with the grammar's own words for the step; empty if there is nothing to compare.
    """

    def __init__(
        self,
        start: int,
        end: int,
        statement: Statement,
        deviations: tuple[str, ...] = (),
        is_continued: bool = False,
        text: str = "",
    ) -> None:
        self.start, self.end, self.statement, self.deviations = start, end, statement, deviations
        self.is_continued, self.text = is_continued, text


def read_freely(
    text: str, grammar: TraceGrammar, form: str = "steps", units: frozenset[str] = frozenset()
) -> list[Piece] | None:
    """The statements of a text of any kind, or None if it is too long to be a solution.

    `units` are the words that may stand behind a number, in small letters.
    """
    if len(text) > MOST_CHARACTERS or text.count("\n") > MOST_PIECES:
        return None
    how = how_of(grammar, units)
    tags = list(_TAGS.finditer(text)) if "<" in text else []
    if form == "think" or tags:
        pieces = _read_tagged(text, [(tag.group(), tag.start(), tag.end()) for tag in tags], how, form)
        pieces = None if pieces is None else sorted(pieces, key=lambda piece: piece.start)
    else:
        pieces = _read_span(text, 0, len(text), how)
    return None if pieces is None else _checked(pieces)


def _read_span(text: str, start: int, end: int, how: How) -> list[Piece] | None:
    """The statements between two places, which the grammar's mark ends."""
    pieces: list[Piece] = []
    marks = list(statement_ends(how.grammar.statement_end).finditer(text, start, end))
    if len(marks) >= MOST_PIECES:
        return None
    for mark in marks:
        pieces += _read_piece(text, start, mark.start(), how)
        start = mark.end()
    return pieces + _read_piece(text, start, end, how)


def _read_piece(text: str, start: int, end: int, how: How) -> list[Piece]:
    """The statement between two places; several, if it holds several lines and cannot be read in one."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start == end:
        return []
    raw = text[start:end]
    piece = single_spaced(raw)
    statement, deviations, words = _statement(piece, how)
    if not isinstance(statement, Malformed):
        return [Piece(start, end, statement, deviations, text=words)]
    if piece in "-*\u2022":
        return []
    if NUMBERING.fullmatch(piece):
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


def _checked(pieces: list[Piece]) -> list[Piece]:
    """The pieces without numbers that count statements from 1; other numbers, and words after an answer, are wrong."""
    result: list[Piece] = []
    expected, is_answered = 1, False
    for at, piece in enumerate(pieces):
        statement = piece.statement
        is_answered = is_answered or isinstance(statement, Answer)
        if isinstance(statement, Prose):
            number = NUMBERING.fullmatch(statement.text)
            if number is not None and int(number[1]) == expected and at + 1 < len(pieces) and not is_answered:
                expected += 1
                continue
            if number is not None or is_answered:
                piece = Piece(piece.start, piece.end, Malformed(statement.text))
        result.append(piece)
    return result


def _statement(piece: str, how: How) -> tuple[Statement, tuple[str, ...], str]:
    """One statement, what had to be overlooked, and its words as the grammar has them, if they can be had.

    The solutions of one problem have many statements in common.
    """
    return _remembered(piece, how) if len(piece) <= MOST_REMEMBERED else _understood(piece, how)


@lru_cache(maxsize=1 << 14)
def _remembered(piece: str, how: How) -> tuple[Statement, tuple[str, ...], str]:
    return _understood(piece, how)


def _understood(piece: str, how: How) -> tuple[Statement, tuple[str, ...], str]:
    notes: dict[str, None] = {}
    seems_odd = is_odd(piece)
    if not seems_odd:
        statement = read_statement(piece, how.grammar)
        if not _needs_help(statement, piece, how):
            return statement, (), piece
    end = how.grammar.statement_end
    may_have_layout = seems_odd or piece[0] in "-*" or piece.endswith(end)
    plain = without_layout(piece, end, notes) if may_have_layout else piece
    if plain and (seems_odd or plain != piece):
        statement = read_statement(plain, how.grammar)
        if not _needs_help(statement, plain, how):
            return statement, tuple(notes), plain
    if len(plain) <= 5000 and (meant := _meant(plain, how, notes)) is not None:
        return meant, tuple(notes), _in_words(meant, how.grammar)
    return Malformed(piece), (), ""


def _in_words(statement: Statement, grammar: TraceGrammar) -> str:
    """How the grammar has a step about this name."""
    if not isinstance(statement, Step):
        return ""
    return fill(grammar.step_words, (statement.name, write_chain(statement.chain), statement.variable))


def _with_clauses(piece: str, how: How) -> list[tuple[Statement, tuple[str, ...]]]:
    """A step with calculations of its own between its head and its chain: `Define X as k; t = a + b = 5; so k = ...`.

    First the calculations, each a step about a letter, then the step; nothing if there are none.
    """
    head, *middle, last = piece.split(";")
    if not middle or len(middle) > 64:
        return []
    step, notes, _ = _statement(f"{head};{last}", how)
    if not isinstance(step, Step):
        return []
    found: list[tuple[Statement, tuple[str, ...]]] = []
    for clause in middle:
        assignment = _ASSIGNMENT.fullmatch(clause.strip())
        slots = {"n": assignment[1], "chain": assignment[2]} if assignment else {}
        own: dict[str, None] = {}
        statement = statement_from("step", slots, partial(_expression, how, own)) if assignment else None
        if statement is None:
            return []
        found.append((statement, tuple(own)))
    return [*found, (step, notes)]


def _needs_help(statement: Statement, text: str, how: How) -> bool:
    if isinstance(statement, Step):  # where steps have few words of their own, an answer looks like one
        if statement.name.casefold().strip("# ") in ANSWER_WORDS:
            return True
        found = _as_own_answer(text, how)
        return found is not None and number_with_words(found["value"], how, {}) is not None
    return isinstance(statement, Malformed) or (isinstance(statement, Answer) and statement.value is None)


def _as_own_answer(text: str, how: How) -> re.Match[str] | None:
    """The text as the grammar's own answer, in any case and with any marks."""
    return how.own_answer.fullmatch(text)


def _meant(text: str, how: How, notes: dict[str, None]) -> Statement | None:
    """The statement that a text means though the grammar has it otherwise."""
    asked = ANSWERED.fullmatch(text)
    if asked is not None:
        seen = dict(notes)
        value = number_with_words(next(filter(None, asked.groups()), ""), how, seen)
        if value is not None:
            is_usual = _as_own_answer(text, how) is not None and seen
            notes.update(seen if is_usual else seen | {WORDING: None})
            return Answer(value)
    lead = LEAD_IN.match(text)
    short = text[lead.end() :] if lead else text
    is_last_read: bool | None = None
    small = text.lower() if text.isascii() else ""
    for kind, pattern, is_chain_last, needed in (*how.patterns, *OTHER_ENGLISH):
        if small and needed not in small:
            continue  # it would come to nothing, in more time; so below
        if is_chain_last:
            if is_last_read is None:
                is_last_read = "=" not in text or _is_link(text.rpartition("=")[2], how)
            if not is_last_read:
                continue
        for one in (text, short) if lead else (text,):
            found = pattern.fullmatch(one)
            if found is None:
                continue
            seen = dict(notes)
            statement = _from_slots(kind, found, one, how, seen)
            if statement is not None:
                notes.update(seen)
                return statement
    return None if asked is None else Answer(None)


def _from_slots(kind: str, found: re.Match[str], text: str, how: How, notes: dict[str, None]) -> Statement | None:
    slots = dict(found.groupdict())
    for slot, letter in slots.items():
        if slot[0] == "v" and slot != "value" and letter != slots["v"]:
            return None
    if kind == "answer":
        value = number_with_words(slots["value"] or "", how, notes)
        return None if value is None else Answer(value)
    if slots.get("value"):
        number = number_with_words(slots["value"] or "", how, notes)
        if number is None:
            return None
        slots["value"] = str(number)
    read = _expression if kind == "plan" else _link
    statement = statement_from(kind, slots, partial(read, how, notes))
    if not notes:
        notes[WORDING] = None
    return statement


def _link(how: How, notes: dict[str, None], text: str) -> Expression | None:
    """A link of a chain, maybe a number with a unit word."""
    return _expression(how, notes, without_unit(text, how, notes) if how.units else text)


def _is_link(text: str, how: How) -> bool:
    """Whether a text, or what stands before the marks at its end, can be read as a link of a chain."""
    return _link(how, {}, text.rstrip(MARKS_BETWEEN)) is not None or _link(how, {}, text) is not None


def _expression(how: How, notes: dict[str, None], text: str) -> Expression | None:
    """An expression as people write it: products without a sign, and numbers of all kinds."""
    if "(" in text and (changed := IMPLIED.sub(" * ", text)) != text:
        notes[PRODUCTS] = None
        text = changed
    return read_expression(text, partial(operand, how, notes))


def _read_tagged(text: str, tags: list[tuple[str, int, int]], how: How, form: str) -> list[Piece] | None:
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
        value = number_with_words(inside, how, notes)
    if form != "think" or len(tags) < 4:
        notes[TAGS] = None
    pieces.append(Piece(opened, closed, Answer(value), tuple(notes)))
    return pieces


def _read_half_tagged(text: str, tags: list[tuple[str, int, int]], how: How) -> list[Piece] | None:
    """Statements of which only the thoughts, or only the answer, stand in tags."""
    (name, begin, first), (_, last, after) = tags
    spans = [_read_span(text, 0, begin, how), _read_span(text, after, len(text), how)]
    if name == THINK:
        spans.insert(1, _read_span(text, first, last, how))
    else:
        notes: dict[str, None] = {}
        answer = Answer(number_with_words(text[first:last][:200], how, notes))
        spans.insert(1, [Piece(first, last, answer, tuple(notes))])
    pieces = [piece for span in spans for piece in span or ()]
    return None if None in spans else _with_note(pieces, TAGS)


def _with_note(pieces: list[Piece] | None, note: str) -> list[Piece] | None:
    if not pieces:
        return pieces
    last = pieces[-1]
    return [*pieces[:-1], Piece(last.start, last.end, last.statement, (*last.deviations, note))]
