"""A completion with a teacher's marks in it: for a terminal, and for a page.

Every statement that the grader marked stands on a line of its own, after a sign that says what became of it and before
what is wrong with it; the rest of the text stands between. Nothing but spaces is left out. Characters that cannot be
seen, or that turn the text around, are written as their code, for the text may be anybody's.
"""

import re
import unicodedata
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gsm_lab.problems import Examination, Grade, Mark

SIGNS = {"right": "✓", "deviating": "~", "wrong": "✗", "extra": "+", "retracted": "↺"}
"""What stands before a statement, by its status; the shape tells it without the colour."""
MARK_STYLE = """
.marked { list-style: none; margin: 0; padding: 0; line-height: 1.5 }
.marked li { border-left: .25rem solid transparent; padding: .05rem .5rem; overflow-wrap: anywhere }
.marked bdi { white-space: pre-wrap }
.marked .sign { display: inline-block; width: 1.3em; font-weight: bold }
.marked small, .verdict small { display: block; margin-left: 1.3rem; font-size: .85em; opacity: .85 }
.marked .right { border-left-color: #0072b2 }
.marked .deviating { border-left: .25rem dashed #e69f00 }
.marked .wrong { border-left: .25rem double #d55e00; background: #d55e001a }
.marked .extra { border-left: .25rem dotted #56b4e9 }
.marked .retracted bdi { text-decoration: line-through }
.marked .wrong .sign, .verdict .wrong { color: #b34700 }
"""
"""A stylesheet for what `mark_html` writes: colours that the colour-blind tell apart, each with a line of its own."""
_COLOURS = {"right": "34", "deviating": "33", "wrong": "1;31", "extra": "36", "retracted": "2"}
_END = re.compile(r"^(?: ;|[.,;:!?)\]}。]+)")
"""What belongs to the statement before it; terse frames put a space between."""
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def mark_text(examination: "Examination", completion: str, colour: bool = False) -> str:
    """The marked completion for a terminal, with ANSI colours if asked for; its last lines say the verdict."""
    lines = []
    for mark, text in _pieces(examination, completion):
        sign = SIGNS[mark.status] if mark else " "
        body = visible(text).replace("\n", "\n  ")
        line = f"{sign} {body}{_gain(mark)}"
        lines.append(f"\x1b[{_COLOURS[mark.status]}m{line}\x1b[0m" if mark and colour else line)
        lines += [f"    {visible(message)}" for message in mark.messages] if mark else []
    lines.append(f"= {_verdict(examination.grade)}")
    lines += [f"    {visible(message)}" for message in _unmarked(examination)]
    return "\n".join(lines)


def mark_html(examination: "Examination", completion: str) -> str:
    """The marked completion as an HTML fragment, all of it escaped; `MARK_STYLE` is its stylesheet."""
    items = []
    for mark, text in _pieces(examination, completion):
        body = f"<bdi>{escape(visible(text))}</bdi>"
        if mark is None:
            items.append(f'<li><span class="sign"></span>{body}</li>')
            continue
        title = escape(f"{mark.status} {mark.kind}{f' of {visible(mark.quantity)}' if mark.quantity else ''}")
        sign = f'<span class="sign" role="img" aria-label="{mark.status}">{SIGNS[mark.status]}</span>'
        notes = "".join(f"<small><bdi>{escape(visible(message))}</bdi></small>" for message in mark.messages)
        items.append(f'<li class="{mark.status}" title="{title}{_gain(mark)}">{sign}{body}{notes}</li>')
    kind = "right" if examination.grade.verified else "wrong"
    notes = "".join(f"<small><bdi>{escape(visible(message))}</bdi></small>" for message in _unmarked(examination))
    verdict = f'<span class="{kind}">{escape(_verdict(examination.grade))}</span>'
    return f'<ol class="marked">{"".join(items)}</ol><p class="verdict">{verdict}{notes}</p>'


def _pieces(examination: "Examination", completion: str) -> list[tuple["Mark | None", str]]:
    """The completion in pieces, each with its mark if it has one; spaces and line breaks around them are dropped.

    What ends a statement, such as a full stop, stays with it.
    """
    pieces: list[tuple[Mark | None, str]] = []
    at = 0

    def add_unmarked(text: str) -> None:
        if pieces:
            rest = _END.sub("", text)
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + text.removesuffix(rest))
            text = rest
        if text.strip():
            pieces.append((None, text.strip()))

    for mark in sorted(examination.marks, key=lambda mark: mark.start):
        add_unmarked(completion[at : mark.start])
        pieces.append((mark, completion[max(at, mark.start) : mark.end].strip()))
        at = max(at, mark.end)
    add_unmarked(completion[at:])
    return pieces


def visible(text: str) -> str:
    """The text with every character that cannot be seen, but for line breaks, as its code."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"[U+{ord(char):04X}]" if unicodedata.category(char) in _HIDDEN and char != "\n" else char for char in text
    )


def _gain(mark: "Mark | None") -> str:
    """What a statement adds to the process accuracy, if anything."""
    return f" ({mark.gain:+.2f})" if mark and mark.gain else ""


def _verdict(grade: "Grade") -> str:
    answer = "no answer" if grade.answer is None else f"answer {grade.answer}"
    form = " word for word" if grade.literal else f" ({', '.join(grade.deviation)})" if grade.deviation else ""
    is_right = "" if grade.answer is None else ", right" if grade.answer_correct else ", wrong"
    return f"{grade.verdict}{form}; {answer}{is_right}; process accuracy {grade.process_accuracy:.2f}"


def _unmarked(examination: "Examination") -> list[str]:
    """What is wrong with the whole, such as a step that is missing: errors that no statement is marked with."""
    told = {message for mark in examination.marks for message in mark.messages}
    return [finding.message for finding in examination.grade.findings if finding.message not in told]
