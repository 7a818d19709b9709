"""Laws of marked completions: nothing is left out, marks stand where they belong, and hostile text stays text."""

import random
import re
from html.parser import HTMLParser

import pytest

from gsm_lab.problems import (
    Examination,
    Finding,
    Grade,
    Mark,
    ProblemSpec,
    Verdict,
    draw_problem,
    examine,
    load_template,
    mutate,
    render,
)
from gsm_lab.problems.marking import MARK_STYLE, SIGNS, mark_html, mark_text

TEXT = " Define apples as a; so a = 3. Define pears as p; so p = 3 + 1 = 5. Hm. Answer: 5."
LUCKY = Grade(Verdict.LUCKY, 5, True, 0.5, wrong_value=1, first_error="pears: 3 + 1 is not 5")


def mark(
    part: str, status: str, gain: float = 0.0, *messages: str, quantity: str | None = None, text: str = TEXT
) -> Mark:
    start = text.index(part)
    return Mark(start, start + len(part), "step", status, quantity, gain, messages)


MARKS = (
    mark("Define apples as a; so a = 3.", "right", 0.5, quantity="apples"),
    mark("Define pears as p; so p = 3 + 1 = 5.", "wrong", 0.0, "3 + 1 is not 5", quantity="pears"),
    mark("Answer: 5.", "right"),
)
EXAMINATION = Examination(LUCKY, MARKS)


class Reader(HTMLParser):
    """The text of a fragment, and its tags; refuses tags that do not nest."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(fragment)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_every_statement_stands_on_a_line_of_its_own_after_its_sign():
    assert mark_text(EXAMINATION, TEXT).splitlines() == [
        "✓ Define apples as a; so a = 3. (+0.50)",
        "✗ Define pears as p; so p = 3 + 1 = 5.",
        "    3 + 1 is not 5",
        "  Hm.",
        "✓ Answer: 5.",
        "= lucky; answer 5, right; process accuracy 0.50",
    ]


def test_without_marks_the_text_is_as_it_was():
    nothing = Examination(Grade(Verdict.UNREADABLE, None, False, 0.0), ())
    assert mark_text(nothing, "no idea\nat all") == (
        "  no idea\n  at all\n= unreadable; no answer; process accuracy 0.00"
    )
    assert mark_text(nothing, "") == "= unreadable; no answer; process accuracy 0.00"


def test_marks_are_put_in_the_order_of_the_text():
    assert mark_text(Examination(LUCKY, MARKS[::-1]), TEXT) == mark_text(EXAMINATION, TEXT)


def test_text_under_two_marks_is_written_once():
    both = Examination(
        LUCKY, (Mark(0, 6, "step", "right", None, 0.0, ()), Mark(3, 9, "step", "wrong", None, 0.0, ("no",)))
    )
    assert mark_text(both, "abcdefghijk").splitlines()[:4] == ["✓ abcdef", "✗ ghi", "    no", "  jk"]


def test_the_mark_that_ends_a_statement_stays_with_it():
    inside = Examination(LUCKY, tuple(Mark(one.start, one.end - 1, *one[2:]) for one in MARKS))
    assert mark_text(inside, TEXT) == mark_text(EXAMINATION, TEXT)


def test_what_no_statement_is_marked_with_is_said_at_the_end():
    findings = (Finding(1, "wrong_value", "3 + 1 is not 5"), Finding(-1, "missing", "plums are never computed"))
    examination = Examination(Grade(Verdict.WRONG, 5, False, 0.5, findings=findings), MARKS)
    assert mark_text(examination, TEXT).splitlines()[-2:] == [
        "= wrong; answer 5, wrong; process accuracy 0.50",
        "    plums are never computed",
    ]
    read = Reader(mark_html(examination, TEXT)).text
    assert read.count("3 + 1 is not 5") == read.count("plums are never computed") == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Grade(Verdict.CORRECT, 5, True, 1.0, literal=True), "correct word for word; answer 5, right"),
        (Grade(Verdict.CORRECT, 5, True, 1.0, deviation=("other words",)), "correct (other words); answer 5, right"),
    ],
)
def test_the_verdict_says_whether_the_grammar_was_kept(given, words):
    assert f"= {words}; process accuracy 1.00" in mark_text(Examination(given, ()), TEXT)


def test_a_statement_that_spoils_an_earlier_one_shows_its_loss():
    assert "✗ Hm. (-0.50)" in mark_text(Examination(LUCKY, (mark("Hm.", "wrong", -0.5, "x"),)), TEXT)


def test_colours_come_only_when_asked_for_and_change_no_word():
    plain, coloured = mark_text(EXAMINATION, TEXT), mark_text(EXAMINATION, TEXT, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[1;31m✗ Define pears" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


@pytest.mark.parametrize("status", SIGNS)
def test_every_status_has_a_sign_a_name_and_a_style(status):
    examination = Examination(LUCKY, (mark("Hm.", status, quantity="pears"),))
    assert f"{SIGNS[status]} Hm." in mark_text(examination, TEXT, colour=False)
    assert f"m{SIGNS[status]} Hm." in mark_text(examination, TEXT, colour=True)
    (item,) = [attributes for tag, attributes in Reader(mark_html(examination, TEXT)).tags if "title" in attributes]
    assert item == {"class": status, "title": f"{status} step of pears"}
    assert f'role="img" aria-label="{status}"' in mark_html(examination, TEXT)
    assert f".marked .{status}" in MARK_STYLE
    assert len(set(SIGNS.values())) == len(SIGNS)


def test_a_fragment_holds_the_whole_text():
    read = Reader(mark_html(EXAMINATION, TEXT))
    for part in (*(TEXT[one.start : one.end] for one in MARKS), "Hm.", "3 + 1 is not 5", "lucky; answer 5, right"):
        assert part in read.text
    assert [tag for tag, _ in read.tags].count("li") == 4


HOSTILE = [
    "<script>alert(1)</script>",
    "</bdi></li></ol><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "'><svg/onload=alert(1)>",
    "&lt;b&gt; &amp;",
    "<!-- ",
    "]]> %} {{ 7 * 7 }}",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text_wherever_it_stands(hostile):
    text = f"{hostile} 1. {hostile} 2."
    first = Mark(0, len(hostile) + 3, "step", "wrong", hostile, 0.0, (hostile,))
    findings = (Finding(-1, "missing", f"{hostile} 3"),)
    given = Grade(Verdict.CORRECT, 5, True, 1.0, deviation=(hostile,), findings=findings)
    fragment = mark_html(Examination(given, (first,)), text)
    read = Reader(fragment)
    assert {tag for tag, _ in read.tags} == {"ol", "li", "span", "bdi", "small", "p"}
    assert {name for _, attributes in read.tags for name in attributes} == {"class", "title", "role", "aria-label"}
    assert read.text.count(hostile) == 5
    assert [attributes["title"] for _, attributes in read.tags if "title" in attributes] == [f"wrong step of {hostile}"]


@pytest.mark.parametrize(
    ("char", "code"),
    [
        ("\x1b", "[U+001B]"),
        ("\x00", "[U+0000]"),
        ("\x07", "[U+0007]"),
        ("\r", "[U+000D]"),
        ("\x9b", "[U+009B]"),
        ("\u202e", "[U+202E]"),
        ("\u2066", "[U+2066]"),
        ("\u200b", "[U+200B]"),
        ("\u2028", "[U+2028]"),
        ("\ud800", "[U+D800]"),
    ],
)
def test_what_cannot_be_seen_or_turns_the_text_around_is_written_as_its_code(char, code):
    text = f"a{char}b c{char}d"
    examination = Examination(LUCKY, (Mark(0, 3, "step", "wrong", f"q{char}q", 0.0, (f"m{char}m",)),))
    for written in (mark_text(examination, text), mark_html(examination, text)):
        assert char not in written
        assert all(part in written for part in (f"a{code}b", f"c{code}d", f"m{code}m"))
        assert written.encode("utf-8")
    assert f"q{code}q" in mark_html(examination, text)


def test_letters_of_any_language_stay_and_are_kept_apart():
    text = "שלום 3 = 三 é 🙂"
    examination = Examination(LUCKY, (Mark(0, 4, "step", "right", None, 0.0, ()),))
    assert "✓ שלום\n  3 = 三 é 🙂" in mark_text(examination, text)
    assert "<bdi>שלום</bdi>" in mark_html(examination, text)


def test_nothing_but_spaces_is_left_out_whatever_is_marked():
    rng = random.Random(0)
    for _ in range(200):
        text = "".join(rng.choice("ab .\n) é") for _ in range(rng.randrange(40)))
        places = [sorted(rng.randrange(len(text) + 1) for _ in range(2)) for _ in range(rng.randrange(5))]
        marks = tuple(Mark(start, end, "step", rng.choice(list(SIGNS)), None, 0.0, ()) for start, end in places)
        written = mark_text(Examination(LUCKY, marks), text)
        kept = "".join(line[2:] for line in written.splitlines()[:-1])
        assert "".join(kept.split()) == "".join(text.split())


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_wrong_answer_is_marked_where_it_stands_and_a_right_one_is_not(mode):
    rng = random.Random(1)
    exercise = render(draw_problem(ProblemSpec(op=6, mode=mode), rng), load_template("zoo", "english"), rng)
    wrong = mutate(exercise, "wrong_answer", rng)
    assert wrong is not None
    for text, status in ((exercise.completion, "right"), (wrong, "wrong")):
        (mark,) = [mark for mark in examine(exercise, text).marks if mark.kind == "answer"]
        assert mark.status == status
    assert "answer: it is not the value of the asked quantity" in mark.messages
    assert examine(exercise, wrong).grade.verdict is Verdict.WRONG
