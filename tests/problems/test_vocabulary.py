"""A context or a language of your own is one file, and a fault in it is named."""

import random
from pathlib import Path

import pytest

from gsm_lab.errors import TemplateError
from gsm_lab.problems import (
    ProblemSpec,
    Style,
    draw_problem,
    faults,
    grade,
    identities,
    known_contexts,
    known_frames,
    load_template,
    read_problem,
    read_template,
    render,
    solve_text,
)
from gsm_lab.problems import template as template_module

HOME = Path(template_module.__file__).parent
ZOO = (HOME / "contexts" / "zoo.toml").read_text(encoding="utf-8")
ENGLISH = (HOME / "frames" / "english.toml").read_text(encoding="utf-8")
LIONS, ASHGROVE = 'many = "adult lions"', 'name = "Ashgrove Zoo"'


def changed(folder: Path, text: str, *changes: tuple[str, str]) -> Path:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def goes_round(template, modes: tuple[str, ...] = ("forward", "reverse")) -> None:
    """Problems of all kinds can be told, read, solved and graded in these words."""
    for seed in range(30):
        rng = random.Random(seed)
        spec = ProblemSpec(op=rng.randint(2, 25), mode=modes[seed % len(modes)], implicit_totals=0.5, nested_totals=0.5,
                           operations=("add", "subtract", "multiply", "divide"), composites=0.5)  # fmt: skip
        style = Style(rules=True, trace_order="goal_directed", checks=0.5, recovery=0.3)
        exercise = render(draw_problem(spec, rng), template, rng, style)
        assert identities(read_problem(exercise.prompt, template)) == exercise.identities
        assert grade(exercise, exercise.completion).verified
        assert grade(exercise, solve_text(exercise.prompt, template, style, rng)).verified


@pytest.mark.parametrize("frames", known_frames())
@pytest.mark.parametrize("context", known_contexts())
def test_what_comes_with_gsm_lab_has_no_faults(context: str, frames: str):
    assert list(faults(load_template(context, frames))) == []  # all 586 places, not only the first ten


def test_contexts_have_names_enough():
    for context in known_contexts():
        for frames in known_frames():
            template = load_template(context, frames)
            names = [template.names[quantity] for quantity in template.quantities()]
            assert len(template.places) >= 580
            assert len(set(names)) == len(names)


def test_a_context_of_your_own_is_one_file(tmp_path: Path):
    path = changed(tmp_path, ZOO, ('name = "zoo"', 'name = "mine"'), ('one = "adult lion"', 'one = "red ant"'),
                   (LIONS, 'many = "red ants"'), ('short = "lion"', 'short = "ant"'))  # fmt: skip
    for frames in ("english", "paraphrase", "terse", "symbolic"):
        template = load_template(path, frames)
        assert template.context == "mine"
        assert list(faults(template)) == []
        goes_round(template)
    with pytest.raises(TemplateError, match=r"chinese\.toml speaks 'zh' and mine.toml has nouns in 'en'"):
        load_template(path, "chinese")


BAD_CONTEXTS = [
    ((LIONS, 'many = "brown otters"'), "calls two quantities 'the number of brown otters at Ashgrove Zoo'"),
    (('one = "adult lion"', 'one = "brown otter"'), "calls two quantities 'the average number of newborns per brown"),
    ((ASHGROVE, 'name = "Birch Hollow Park"'), "calls two quantities '.*Birch Hollow Park'"),
    ((LIONS, 'many = "otters"'), "the item 'otters' of 'zoo' is a part of 'brown otters'"),
    ((LIONS, 'many = "lions and brown otters"'), "the item 'brown otters' .* is a part of 'lions and brown otters'"),
    ((ASHGROVE, 'name = "Birch"'), "the place 'Birch' of 'zoo' is a part of 'Birch Hollow Park'"),
    ((f"{LIONS}\n", ""), "lacks or misplaces 'many'"),
    ((LIONS, 'many = "adult lion"'), "the item 'adult lion' of 'zoo' has the same plural"),
    ((LIONS, 'many = ""'), "the noun '' .* is empty"),
    ((LIONS, 'many = "adult  lions"'), "has a space too many"),
    ((LIONS, 'many = "lions; three"'), "'lions; three' .* holds ;, marks of the grammar"),
    ((LIONS, 'many = "3 lions"'), "'3 lions' .* holds 3, marks of the grammar or digits"),
    ((LIONS, 'many = "lions (old)"'), r"holds \( \), marks"),
    ((LIONS, 'many = "{place}"'), "holds { }, marks"),
    ((ASHGROVE, 'name = "<think>"'), "holds < >, marks"),
    ((ASHGROVE, 'name = "St. Ash"'), "holds ., marks"),
    (('short = "ashgrove"', 'short = "ash = grove"'), "holds =, marks"),
    ((LIONS, 'many = "sum"'), "the noun 'sum' of 'zoo' is a word of the sentences of 'english'"),
    ((ASHGROVE, 'name = "the sum of"'), "is a word of the sentences"),
    ((LIONS, f'many = "{"very " * 50}old lions"'), "cannot be read: give a shorter noun"),
    ((LIONS, 'many = "lions, which is"'), "cannot be read"),
    (("[category]", "[other]"), "lacks or misplaces 'category'"),
    (("[part]", "[other]"), "lacks or misplaces 'part'"),
    (('name = "zoo"', 'title = "zoo"'), "lacks or misplaces 'name'"),
    (("[category]", "[category"), "mine.toml is not valid TOML"),
    (('language = "en"', 'language = "de"'), "english.toml speaks 'en' and mine.toml has nouns in 'de'"),
    (('first = [', 'one = ['), "lacks or misplaces 'first'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"), BAD_CONTEXTS, ids=lambda part: part[1][:40] if type(part) is tuple else ""
)
def test_a_faulty_context_says_what_is_wrong(tmp_path: Path, change: tuple[str, str], message: str):
    path = changed(tmp_path, ZOO, change)
    with pytest.raises(TemplateError, match=message):
        load_template(path)


def test_short_nouns_matter_where_they_are_used(tmp_path: Path):
    twice = changed(tmp_path, ZOO, ('short = "lion"', 'short = "otter"'))
    assert load_template(twice, "english")
    with pytest.raises(TemplateError, match="calls two quantities 'otter_ashgrove'"):
        load_template(twice, "terse")
    spaced = changed(tmp_path, ZOO, ('short = "lion"', 'short = "big lion"'))
    with pytest.raises(TemplateError, match=r"'big lion_ashgrove' cannot be read: .* one word where the frames"):
        load_template(spaced, "terse")


def test_all_faults_are_told_at_once(tmp_path: Path):
    path = changed(tmp_path, ZOO, (LIONS, 'many = "otters"'), (ASHGROVE, 'name = "Zoo 1"'))
    found = list(faults(read_template(path, "english").limited(10, 10)))
    assert any("'Zoo 1'" in fault for fault in found)
    assert any("'otters'" in fault for fault in found)


def test_too_few_nouns_are_a_fault(tmp_path: Path):
    few = ZOO[: ZOO.index("[further_places]")].replace('[[places]]\nname = "Ashgrove Zoo"\nshort = "ashgrove"\n', "")
    (tmp_path / "few.toml").write_text(few)
    with pytest.raises(TemplateError, match="has 9 places and 10 items: give at least 10 and 10"):
        load_template(tmp_path / "few.toml")


@pytest.mark.parametrize("noun", ["5", '["a"]', "true"])
def test_a_noun_that_is_no_text_is_named(tmp_path: Path, noun: str):
    path = changed(tmp_path, ZOO, (LIONS, f"many = {noun}"))
    with pytest.raises(TemplateError, match="many"):
        load_template(path)


def test_an_item_called_like_the_category_is_a_fault(tmp_path: Path):
    path = changed(tmp_path, ZOO, (LIONS, 'many = "animals"'))
    with pytest.raises(TemplateError, match="'animals'"):
        load_template(path)


def test_further_places_are_all_different_whatever_the_number_of_words(tmp_path: Path):
    template = load_template(changed(tmp_path, ZOO, ('"Aldermoor", ', "")))
    names = [dict(place)["name"] for place in template.places]
    assert len(set(names)) == len(names) == 10 + 23 * 24


def test_an_unknown_context_lists_the_known_ones():
    with pytest.raises(
        TemplateError, match="no contexts 'farm': give one of bakery, festival, harbour, museum, school, zoo"
    ):
        load_template("farm")
    with pytest.raises(TemplateError, match="no frames 'french': give one of chinese, english, paraphrase"):
        load_template("zoo", "french")


def test_a_file_that_is_no_text_is_named(tmp_path: Path):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TemplateError, match=r"bytes\.toml is not valid TOML"):
        load_template(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('constant = "{x} equals {c}"', 'constant = "{x} equals"'), r"facts.constant .* it needs \['c', 'x'\]"),
        (('constant = "{x} equals {c}"', 'constant = "{x} equals {c} {foo}"'), "may have"),
        (('modulus = "All numbers are counted modulo {m}"', 'modulus = "All"'), "prompt.modulus .*needs"),
        (('quantity = "the number of {many}', 'quantity = "the number of {manyy}'), "names.quantity .*'manyy'"),
        (('quantity = "the number of {many} at {place}"', 'quantity = "{many}"'), "calls two quantities 'adult lions'"),
        (("variables = true", "variables = false"), r"use {v} in trace.step exactly if variables = true"),
        (
            ('check = "Check: {equation}."', 'check = "Check."'),
            r"trace.check = 'Check.' lacks the slots \['equation'\]",
        ),
        (('check = "Check: {equation}."\n', ""), "lacks or misplaces .*'check'"),
        (('fact_end = "."\n', ""), "lacks or misplaces 'fact_end'"),
        (('answer = "Answer: {value}."', 'answer = "{value}."'), "cannot be read"),
        (('joiner = " "', 'joiner = ""'), "cannot be read"),
    ],
)
def test_faulty_frames_say_what_is_wrong(tmp_path: Path, change: tuple[str, str], message: str):
    with pytest.raises(TemplateError, match=message):
        load_template("zoo", changed(tmp_path, ENGLISH, change))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("so {v} = {chain}.", "so {v} = {chain} {foo}."), id="a slot that does not exist: KeyError"),
        pytest.param(("so {v} = {chain}.", "so {v} = {chain} {."), id="half a brace in a statement: ValueError"),
        pytest.param(('"{x} equals {c}"', '"{x} equals {c} {"'), id="half a brace in a fact: ValueError"),
        pytest.param(('"{x} equals {c}"', '"{x:>3} equals {c}"'), id="a format in a slot: KeyError when rendered"),
        pytest.param(('"{x} equals {c} plus {g}"', '"{x} equals {g} minus {c}"'), id="two facts in the same words"),
        pytest.param(('"{x} is known to be {c}"', '"{x} equals {c}"'), id="given in the words of constant"),
        pytest.param(('How many {many} are there at {place}?', "How many {many} are there?"), id="ambiguous question"),
        pytest.param(('fact_end = "."', 'fact_end = ""'), id="sentences without an end"),
        pytest.param(('solve = "Hence {equation}."', 'solve = "Check: {equation}."'), id="solve in the words of check"),
        pytest.param(('retract = "Wait, that is not right."', 'retract = ""'), id="an empty retract"),
        pytest.param(("Wait, that is not right.", "Wait. That is not right."), id="a retract of two statements"),
        pytest.param(("capitalise = true", 'capitalise = "no"'), id="bool('no') is true"),
    ],
)  # fmt: skip
def test_frames_that_cannot_work_are_refused_when_loaded(tmp_path: Path, change: tuple[str, str]):
    with pytest.raises(TemplateError):
        load_template("zoo", changed(tmp_path, ENGLISH, change))


VOLANU = """
name = "volanu"
language = "vo"
capitalise = true
variables = true
joiner = " "
[names]
quantity = "ba {many} ka {place}"
total = "ola {category} ka {place}"
rate = "me {part} va {one} ka {place}"
yield = "ola {part} ka {place}"
[short_names]
quantity = "{many} ka {place}"
total = "ola {category} ka {place}"
rate = "me {part} va {one} ka {place}"
yield = "ola {part} ka {place}"
[list]
pair = " u "
middle = ", "
last = " u "
[groups]
sum = "zam {list} maz"
net = "zin {plus} nof {minus} niz"
[facts]
constant = "{x} sa {c}"
copy = "{x} sa {g}"
sum = "{x} sa zam {list} maz"
difference = "{x} sa {plus} nof {minus}"
plus = "{x} sa {c} pli {g}"
minus = "{x} sa {g} min {c}"
times = "{x} sa {c} tim {g}"
divided = "{x} sa {g} dil {c}"
unknown = "{x} no sa"
given = "vi {x} sa {c}"
[prompt]
modulus = "Mod {m}"
quantity_question = "Ke {many} ka {place}?"
total_question = "Ke ola {category} ka {place}?"
rate_question = "Ke me {part} va {one} ka {place}?"
yield_question = "Ke ola {part} ka {place}?"
total_rule = "Ola {category} sa zam"
yield_rule = "Ola {part} sa zam tim"
fact_end = "!"
[trace]
plan = "Seku {n}, sa {expression}!"
step = "Lasu {n} es {v}: {v} = {chain}!"
unknown = "Lasu {n} es {v}, no!"
given = "Vi {n} es {value}: {equation}!"
solve = "Do {equation}!"
check = "Vero {equation}!"
retract = "Ne!"
answer = "Rega {value}!"
statement_end = "!"
[nouns.zoo]
category = { many = "bestia", short = "best" }
part = { many = "pulu", short = "pul" }
"""


def invented(folder: Path, *changes: tuple[str, str], space: str = "") -> Path:
    """An invented language with its own nouns for the zoo."""
    syllables = ["ta", "re", "mo", "li", "su", "ke", "no", "pa", "di", "fu"]
    places = [f'{{ name = "{space}Gor{one}", short = "gor{one}" }}' for one in syllables]
    items = [f'{{ one = "{one}nik", many = "{one}niki", short = "{one}n" }}' for one in syllables]
    nouns = f"places = [{', '.join(places)}]\nitems = [{', '.join(items)}]\n"
    return changed(folder, VOLANU + nouns, *changes)


def test_a_language_of_your_own_is_one_file(tmp_path: Path):
    template = load_template("zoo", invented(tmp_path))
    assert template.language == "vo"
    assert list(faults(template)) == []
    goes_round(template)
    assert template.distance(load_template()) == "language"
    exercise = render(draw_problem(ProblemSpec(op=8), random.Random(0)), template, random.Random(0))
    assert exercise.prompt.startswith(("Ba ", "Ola ", "Me "))
    with pytest.raises(TemplateError, match=r"write a context in 'vo' .* or add nouns.school"):
        load_template("school", invented(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        ('quantity = "ba {many} ka {place}"', 'quantity = "{place} ba {many}"'),  # as in German, say
        ('given = "vi {x} sa {c}"', 'given = "Vi {x} sa {c}"'),
    ],
)
def test_names_and_facts_may_begin_with_a_capital(tmp_path: Path, change: tuple[str, str]):
    goes_round(load_template("zoo", invented(tmp_path, change)))


@pytest.mark.parametrize("frames", ["english", "paraphrase", "terse", "symbolic", "chinese"])
def test_closed_vocabularies_hold_every_text(frames: str):
    """Words and marks of `pieces` are those of any exercise; numbers are digits."""
    template = load_template("zoo", frames)
    words = {letter for piece in template.limited(10, 10).pieces() for letter in piece}
    for seed in range(60):
        rng = random.Random(seed)
        spec = ProblemSpec(op=20, mode=("forward", "reverse")[seed % 2], implicit_totals=0.5, nested_totals=0.5)
        exercise = render(draw_problem(spec, rng), template, rng, Style(rules=True, checks=0.5, recovery=0.5))
        assert set(exercise.prompt + exercise.completion) <= words
