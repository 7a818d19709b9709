"""How people write what the grammar of traces writes in one way: signs, layout, numbers with words, phrases, prose."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from gsm_lab.problems.grammar import TraceGrammar, slot_at
from gsm_lab.problems.phrase import single_spaced
from gsm_lab.problems.statements import Binary, Expression
from gsm_lab.problems.trace import MOST_DIGITS, read_whole

LAYOUT, SIGNS, UNITS, SEPARATORS = "marks of layout", "other signs", "unit words", "thousands separators"
DECIMALS, WORDING, PRODUCTS, TAGS = "decimals", "other wording", "products without a sign", "other tags"
PROSE = "words beside the steps"
_ODD_MARKS = ("**", "__", "`", "$", "\\")
_STARTS = "-*#0123456789\u2022"
"""What an odd start, or a bullet, begins with."""
_ODD_START = re.compile(r"(?:[-*]|[0-9]{1,3}[.)]|#{1,6}) ")
_TIMES, _DIVIDE, _MINUS = "\u00d7\u00b7\u22c5\u2219\u2715\u2217\uff0a", "\u00f7\u2215\uff0f", "\u2212\u2013\uff0d"
_SIGN_TABLE = {ord(sign): "*" for sign in _TIMES} | {ord(sign): "/" for sign in _DIVIDE}
_SIGN_TABLE |= {ord(sign): "-" for sign in _MINUS} | {0xFF1D: "=", 0xFF0B: "+", 0xFF08: "(", 0xFF09: ")"}
_SIGN_TABLE |= {0xFF10 + digit: str(digit) for digit in range(10)}
_OTHER_SIGN = re.compile(f"[{''.join(map(chr, _SIGN_TABLE))}]")
_LATEX = {r"\times": "*", r"\cdot": "*", r"\div": "/", r"\(": "", r"\)": "", r"\[": "", r"\]": ""}
MARKS_BETWEEN = ";,:\uff1b\uff0c\uff1a"
_MARKS = re.compile(r"\*\*|__|[`$]")
_BULLET = re.compile(r"(?:[-*\u2022]+ |[0-9]{1,3}[.)] |#{1,6} (?![0-9]))+")
NUMBERING = re.compile(r"#{0,6} ?(?:step |part )?([0-9]{1,3})[.):]?", re.I)
LEAD_IN = re.compile(
    r"(?:(?:step [0-9]{1,3}|first|second|third|next|then|now|finally|also|and|so|thus|therefore)(?:[,:.] | - | ))+",
    re.I,
)
ANSWERED = re.compile(
    r"(?:(?:so|thus|therefore|hence),? )?(?:the )?(?:final )?answer(?: is)?[ :=]{1,3}(?P<value>.{1,100})"
    r"|#{2,6} ?(?P<hashed>.{1,100})|\\boxed ?\{(?P<boxed>[^{}]{1,100})\}"
    r"|(?:最终|最后)?答案?(?:是|为)?[:\uff1a]? ?(?P<said>.{1,100})",
    re.I,
)
LoosePattern = tuple[str, re.Pattern[str], bool, str]
"""A kind of statement; its regular expression; whether what stands behind the last "=" of a text, but for marks, is
always the last link of its chain; and letters without which no ASCII text matches, in small ones."""
OTHER_ENGLISH: tuple[LoosePattern, ...] = tuple(
    (kind, re.compile(pattern, re.I), is_chain_last, needed)
    for kind, pattern, is_chain_last, needed in (
        (
            "unknown",
            r"(?:define|let) (?P<n>[^=<>:;?]{1,200}?) (?:as|be) (?P<v>[^\W\d]\w{0,60})[;,] "
            r"[^\d=]{0,100}\b(?:know|find)[^\d=]{0,100}",
            False,
            "",
        ),
        (
            "given",
            r"(?:we )?know (?:that )?(?P<n>[^=<>:;?]{1,200}?) (?:=|is|equals) (?P<value>[0-9][0-9,.]{0,20}?)[,;] so "
            r"(?:we have )?(?P<equation>[^<>:;?]{1,1000}?)(?: and we .{0,200})?",
            False,
            "know",
        ),
        ("solve", r"[a-z][a-z ]{0,60}(?: by [0-9]{1,9})?: (?P<equation>[^<>:;?]{1,1000})", True, ":"),
        (
            "solve",
            r"(?:so|then|thus|therefore|hence|that means|this gives|we get),? (?P<equation>[^<>:;?]{1,1000})",
            True,
            "",
        ),
    )
)
"""How others say that something is unknown, is given, or follows."""
ANSWER_WORDS = frozenset({"", "answer", "answer is", "the answer", "the answer is", "final answer", "the final answer"})
_NUMBER = re.compile(r"([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12})(?:\.([0-9]{1,12}))?")
_PRODUCT = re.compile(r"([0-9]+)([^\W\d_].*)")
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
IMPLIED = re.compile(r"(?<=[\w)])\s*(?=\()|(?<=\))\s*(?=\w)")
MOST_UNITS = 80
"""Characters of the words behind a number."""


@dataclass(frozen=True, eq=False)
class How:
    """By which grammar to read, and the words that may stand behind a number; `how_of` gives one for each."""

    grammar: TraceGrammar
    units: frozenset[str]
    patterns: tuple[LoosePattern, ...]
    """The grammar's patterns in any case, with any marks between words and names of any length; answers first."""

    @property
    def own_answer(self) -> re.Pattern[str]:
        """The grammar's own answer, in any case and with any marks."""
        return self.patterns[0][1]

    def is_unit(self, text: str) -> bool:
        """Whether what stands behind a number is words that tell what is counted."""
        if len(text) > MOST_UNITS or not _UNIT_WORDS.fullmatch(text):
            return False
        words = re.split(r"[ ,-]+", text.strip().casefold())
        return self.units.issuperset(words) and all(len(word) > 1 or not word.isascii() for word in words)


@lru_cache(maxsize=1024)
def how_of(grammar: TraceGrammar, units: frozenset[str]) -> How:
    """The same object for the same grammar and words, so that tables of what was read are quick to search."""
    return How(grammar, units, _loose_patterns(grammar))


def is_odd(piece: str) -> bool:
    """Whether a piece has what the grammar never has: a closer look is due before its patterns take that for a name."""
    if not piece.isascii() or any(mark in piece for mark in _ODD_MARKS):
        return True
    return piece[:1] in _STARTS and _ODD_START.match(piece) is not None


def is_prose(text: str) -> bool:
    """Whether words hold no number, sign or word that could say something about a quantity."""
    if not _PROSE.fullmatch(text) or _IS_ONE.search(text) or not _NUMBERS_IN_CHINESE.isdisjoint(text):
        return False
    words = re.findall(r"[^\W\d_]+", text)
    is_plain = all(len(word) > 1 or word in "aAI" or not word.isascii() for word in words)
    return bool(words) and is_plain and _TELLING_WORDS.isdisjoint(text.casefold().split()) and "_" not in text


def without_layout(piece: str, end: str, notes: dict[str, None]) -> str:
    """The piece without marks of layout, with the signs of the grammar."""
    has_others = not piece.isascii() and _OTHER_SIGN.search(piece) is not None  # to translate is slow
    text = piece.translate(_SIGN_TABLE) if has_others else piece
    for old, new in _LATEX.items() if "\\" in text else ():
        text = text.replace(old, new)
    if text != piece:
        notes[SIGNS] = None
    plain = (_MARKS.sub("", text) if any(mark in text for mark in _ODD_MARKS) else text).strip()
    if plain and plain[0] in _STARTS and (bullet := _BULLET.match(plain)):
        plain = plain[bullet.end() :]
    plain = single_spaced(plain).removesuffix(end).rstrip()
    if plain != text:
        notes[LAYOUT] = None
    return plain


def without_unit(link: str, how: How, notes: dict[str, None]) -> str:
    """A link that is a number with a unit word, without it; every other link as it is."""
    found = _NUMBER.match(link.strip())
    if found is None:
        return link
    rest = link.strip()[found.end() :]
    if not rest or rest[0] in "+-*/(" or not how.is_unit(rest):
        return link
    notes[UNITS] = None
    return found[0]


def operand(how: How, notes: dict[str, None], token: str) -> Expression | None:
    """A number with separators, decimals or unit words; a number and a name without a sign; or a name."""
    if not token[0].isdigit():
        return token
    if (plain := read_whole(token)) is not None:
        return plain
    product = _PRODUCT.fullmatch(token)
    number = None if product is None else read_whole(product[1])
    if product is not None and number is not None:
        notes[PRODUCTS] = None
        return Binary("*", number, product[2])
    return number_with_words(token, None, notes)


def number_with_words(text: str, how: How | None, notes: dict[str, None]) -> int | Fraction | None:
    """A number as people write it, maybe with separators, decimals, layout or unit words; None if it is none.

    Without `how`, no words may stand behind it.
    """
    plain = text.strip().strip("*_`$ ").removeprefix("\\(").removesuffix("\\)").removeprefix("=").strip()
    if plain.startswith("\\boxed{") and plain.endswith("}"):
        plain = plain[7:-1].strip()
        notes[LAYOUT] = None
    found = _NUMBER.match(plain)
    if found is None or not plain.isprintable():
        return None
    rest = plain[found.end() :].rstrip(".!。 *_`$")
    if rest and (how is None or not how.is_unit(rest)):
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
def _loose_patterns(grammar: TraceGrammar) -> tuple[LoosePattern, ...]:
    found: list[LoosePattern] = []
    for kind in ("answer", "retract", "plan", "unknown", "given", "solve", "check", "step"):
        pattern = getattr(grammar, kind).removesuffix(grammar.statement_end).strip()
        is_chain_last = pattern.endswith(("{chain}", "{equation}")) and "=" not in pattern
        words = re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", pattern.lower()))
        longest = max((word for word in words if word != "so"), key=len, default="")  # `so` has others in its place
        found.append((kind, _loose(kind, pattern), is_chain_last, longest))
    return tuple(found)


def _has_mark_and_space(parts: list[str]) -> bool:
    """Whether these parts of a pattern begin with a mark and then a space."""
    shown = [part for part in parts if part]
    return len(shown) > 1 and shown[0] in MARKS_BETWEEN and shown[1].isspace()


def _loose(kind: str, pattern: str) -> re.Pattern[str]:
    slots = {
        "{n}": r"(?P<n>[^=<>:;?]{1,200}?)",
        "{expression}": r"(?P<expression>[^=<>:;?]{1,2000})",
        "{chain}": r"(?P<chain>[^<>:;?]{1,4000})",
        "{equation}": r"(?P<equation>[^<>:;?]{1,4000})",
        "{value}": r"(?P<value>.{1,100}?)" if kind == "answer" else r"(?P<value>[0-9][0-9,.]{0,20})",
    }
    # A name ends within no word, which is quickly seen. Plans that run into it are read all the same: they have no
    # number and no sign, and would pass for words beside the steps.
    may_see_ends = kind == "given" or "=" in pattern
    result = ""
    parts = re.split(r"(\{\w+\}|\w+|[^\w\s])", " ".join(pattern.split()))
    for number, part in enumerate(parts):
        if part == "{v}":
            again = result.count("(?P<v")  # a reference would not tell capital letters apart
            result += rf"(?P<v{again or ''}>[^\W\d]\w{{0,60}})"
        elif part in slots:
            result += slot_at(number, parts, slots[part])
            if part == "{n}" and may_see_ends and _has_mark_and_space(parts[number + 1 :]):
                result += r"(?!\B\w)"
        elif part.isspace():
            if not result.endswith(r"\s*"):
                result += r"\s*" if result.endswith("?") else r"\s+"
        elif part == "=":
            result = result.removesuffix(r"\s+") + r"\s*=\s*"
        elif part == "so" and kind == "step":
            result += "(?:so|then|thus|hence|therefore)"
        elif part in MARKS_BETWEEN:  # an empty part, too: at both ends, and between neighbours
            result += f"[{MARKS_BETWEEN}]?"
        else:
            result += re.escape(part)
    return re.compile(result, re.IGNORECASE)
