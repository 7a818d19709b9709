"""The text tells the whole problem to a reader that sees nothing else; a text that does not is refused."""

import random
import re
from collections.abc import Callable

import pytest

from gsm_lab.errors import TemplateError
from gsm_lab.problems import (
    ProblemSpec,
    Style,
    draw_problem,
    grade,
    identities,
    known_contexts,
    known_frames,
    load_template,
    read_problem,
    render,
    solve_text,
)
from gsm_lab.problems.graph import IMPLICIT
from gsm_lab.problems.reader import _NAME, _patterns_of, _sentences
from gsm_lab.problems.style import SENTENCE_ORDERS

TERSE = load_template("zoo", "terse")


def test_the_text_tells_the_whole_problem(exercises):
    for exercise, template in exercises:
        problem = read_problem(exercise.prompt, template)
        assert identities(problem) == exercise.identities
        assert problem.answer == exercise.answer
        assert problem.mode == exercise.problem.mode


@pytest.mark.parametrize("frames", known_frames())
@pytest.mark.parametrize("context", known_contexts())
def test_the_text_tells_the_whole_problem_in_all_words(context: str, frames: str):
    template = load_template(context, frames)
    for mode in ("forward", "reverse"):
        for order in SENTENCE_ORDERS:
            for rules in (False, True):
                for op in (1, 7, 25):
                    rng = random.Random(f"{mode} {order} {rules} {op}")
                    modulus = 23 if mode == "forward" and rules else None
                    spec = ProblemSpec(
                        op=op, mode=mode, implicit_totals=0.5, nested_totals=0.5, composites=0.5, modulus=modulus,
                        operations=("add", "subtract", "multiply") + (() if modulus else ("divide",)),
                    )  # fmt: skip
                    problem = draw_problem(spec, rng)
                    exercise = render(problem, template, rng, Style(sentence_order=order, rules=rules))
                    assert identities(read_problem(exercise.prompt, template)) == identities(problem)


@pytest.mark.parametrize("frames", known_frames())
def test_no_sentence_fits_two_patterns(frames: str):
    """Also not with patterns tried that the reader would not need: every one of them on every sentence."""
    template = load_template("zoo", frames)
    patterns = _patterns_of(template)
    end = template.pattern["prompt.fact_end"]
    seen: set[str] = set()
    for seed in range(60):
        rng = random.Random(seed)
        spec = ProblemSpec(op=25, width=5, composites=0.5, mode=rng.choice(["forward", "reverse"]),
                           operations=("add", "subtract", "multiply", "divide"))  # fmt: skip
        exercise = render(draw_problem(spec, rng), template, rng)
        body = exercise.prompt[: exercise.prompt.rfind(end) + len(end)]
        for sentence in _sentences(body, end, template):
            text = sentence[0].lower() + sentence[1:] if template.capitalise else sentence
            found = patterns.name.sub(lambda _: _NAME.format(0), text)
            fitting = [kind for kind, pattern in patterns.facts if pattern.fullmatch(found)]
            assert len(fitting) == 1 or patterns.modulus.fullmatch(sentence), sentence
            seen.update(fitting)
    assert seen == {kind for kind, _ in patterns.facts}, "each has its turn"


def test_law_1_a_solver_that_reads_only_the_text_is_always_right(exercises):
    for exercise, template in exercises:
        for order in ("leaf_first", "goal_directed"):
            assert grade(exercise, solve_text(exercise.prompt, template, Style(trace_order=order))).verified


def sentences_of(prompt: str) -> list[str]:
    *facts, question = re.split(r"(?<= \.) ", prompt)
    return [*facts, question]


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_text_without_a_needed_sentence_is_refused(mode: str):
    # totals are left out: without one of its kinds, a total is another total
    for seed in range(40):
        problem = draw_problem(ProblemSpec(op=10, mode=mode, implicit_totals=0, distractors=3), random.Random(seed))
        exercise = render(problem, TERSE, random.Random(seed))
        facts = sentences_of(exercise.prompt)
        for name in exercise.needed_names:
            for fact in facts[:-1]:
                if fact.startswith((f"{name} ", f"given {name} ")):
                    left = " ".join(one for one in facts if one != fact)
                    if fact.startswith(f"given {name} "):
                        assert problem.given is not None
                    with pytest.raises(TemplateError):
                        read_problem(left, TERSE)


def test_a_text_without_a_needed_sentence_is_refused_unless_it_is_the_asked_one():
    for seed in range(60):
        problem = draw_problem(ProblemSpec(op=10, implicit_totals=0, distractors=3), random.Random(seed))
        exercise = render(problem, TERSE, random.Random(seed))
        facts = sentences_of(exercise.prompt)
        for name in exercise.needed_names[:-1]:
            left = " ".join(one for one in facts if not one.startswith(f"{name} "))
            with pytest.raises(TemplateError, match="does not settle"):
                read_problem(left, TERSE)


def test_a_text_without_a_distractor_is_another_problem_with_the_same_answer():
    for seed in range(60):
        spec = ProblemSpec(op=8, implicit_totals=0, distractors=1)
        problem = draw_problem(spec, random.Random(seed))
        exercise = render(problem, TERSE, random.Random(seed))
        (extra,) = set(exercise.names) - set(exercise.needed_names)
        left = " ".join(one for one in sentences_of(exercise.prompt) if not one.startswith(f"{extra} "))
        shorter = read_problem(left, TERSE)
        assert shorter.answer == problem.answer
        assert identities(shorter)[:2] == identities(problem)[:2]
        assert identities(shorter) != identities(problem)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("again", [lambda fact: fact, lambda fact: re.sub(r"\d+", "8", fact)], ids=["same", "other"])
def test_a_text_that_says_something_twice_is_refused(mode: str, again: Callable[[str], str]):
    for seed in range(20):
        problem = draw_problem(ProblemSpec(op=8, mode=mode), random.Random(seed))
        facts = sentences_of(render(problem, TERSE, random.Random(seed)).prompt)
        for at, fact in enumerate(facts[:-1]):
            with pytest.raises(TemplateError):
                read_problem(" ".join([*facts[:at], again(fact), *facts[at:]]), TERSE)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("lion_ashgrove 3 .", "no question"),
        ("", "no question"),
        ("lion_ashgrove is 3 . ? lion_ashgrove :", "could not be read"),
        ("lion_ashgrove 3 . lion_ashgrove 4 . ? lion_ashgrove :", "defined twice"),
        ("lion_ashgrove owl_gull + 1 . ? lion_ashgrove :", "could not be read"),
        ("lion_ashgrove 1 + owl_gull . ? lion_ashgrove :", "does not settle"),
        ("lion_ashgrove owl_gull . owl_gull lion_ashgrove . ? owl_gull :", "missing or circular"),
        ("lion_ashgrove 2 * lion_ashgrove . ? lion_ashgrove :", "missing or circular"),
        ("lion_ashgrove 2 * animal_ashgrove . ? animal_ashgrove :", "missing or circular"),
        ("lion_ashgrove ? . ? lion_ashgrove :", "never says what"),
        ("given lion_ashgrove 3 . ? lion_ashgrove :", "never says what"),
        ("lion_ashgrove 3 . owl_gull 2 + lion_ashgrove . given owl_gull 9 . ? lion_ashgrove :", "0 unknowns"),
        ("lion_ashgrove ? . owl_gull 2 + lion_ashgrove . given owl_gull 1 . ? lion_ashgrove :", "does not settle"),
        ("lion_ashgrove ? . owl_gull 2 * lion_ashgrove . given owl_gull 9 . ? lion_ashgrove :", "does not settle"),
        ("lion_ashgrove ? . owl_gull 3 . given owl_gull 3 . ? lion_ashgrove :", "does not settle"),
        ("lion_ashgrove ? . owl_gull lion_ashgrove . given owl_gull 3 . given owl_gull 3 . ? lion_ashgrove :", "twice"),
        ("lion_ashgrove ? . lion_ashgrove 9 . owl_gull lion_ashgrove . given owl_gull 3 . ? lion_ashgrove :", "settle"),
    ],
)
def test_the_reader_refuses_texts_that_cannot_be_solved(prompt: str, message: str):
    with pytest.raises(TemplateError, match=message):
        read_problem(prompt, TERSE)


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("lion_ashgrove 3 . ? owl_gull :", id="asked but never defined: ValueError"),
        pytest.param(
            "lion_ashgrove ? . given owl_gull 3 . ? lion_ashgrove :", id="given but never defined: ValueError"
        ),
        pytest.param("? animal_gull :", id="total of nothing: GraphError"),
        pytest.param("lion_gull 3 . owl_gull lion_gull + lion_gull . ? owl_gull :", id="a parent twice: GraphError"),
        pytest.param("lion_gull 4 . owl_gull lion_gull / 0 . ? owl_gull :", id="divided by 0: GraphError"),
        pytest.param("lion_gull 4 . owl_gull lion_gull / 3 . ? owl_gull :", id="a remainder: read as sound"),
        pytest.param(
            "lion_gull 4 . owl_ivy 9 . owl_gull lion_gull - owl_ivy . ? owl_gull :", id="negative: read as -5"
        ),
        pytest.param("mod 0 . lion_gull 4 . ? lion_gull :", id="modulus 0: ZeroDivisionError"),
        pytest.param("mod 10 . mod 7 . lion_gull 8 . ? lion_gull :", id="two moduli: the last counts"),
        pytest.param(
            "mod 7 . lion_gull ? . owl_gull 2 + lion_gull . given owl_gull 5 . ? lion_gull :", id="modulus forgotten"
        ),
        pytest.param(f"lion_gull {'9' * 5000} . ? lion_gull :", id="5000 digits: ValueError"),
    ],
)
def test_the_solver_refuses_unsound_texts_with_its_own_error(prompt: str):
    with pytest.raises(TemplateError):
        read_problem(prompt, TERSE)
    with pytest.raises(TemplateError):
        solve_text(prompt, TERSE)


def test_any_text_is_read_or_refused():
    """Names of sound texts exchanged for others of the same text, and words exchanged or left out."""
    for seed in range(1500):
        rng = random.Random(seed)
        problem = draw_problem(ProblemSpec(op=8, mode=rng.choice(["forward", "reverse"])), rng)
        exercise = render(problem, TERSE, rng)
        words = exercise.prompt.split(" ")
        for _ in range(rng.randint(1, 3)):
            one, other = rng.choices([at for at, word in enumerate(words) if "_" in word], k=2)
            if rng.random() < 0.2:
                one, other = rng.randrange(len(words)), rng.randrange(len(words))
                words[one], words[other] = words[other], words[one]
            words[one] = words[other]
        try:
            solution = solve_text(" ".join(words), TERSE)
        except TemplateError:
            continue
        assert grade(exercise, solution).verdict


def test_totals_are_of_all_kinds_that_the_text_mentions():
    prompt = "lion_gull 3 . owl_gull 4 . otter_ivy 2 + animal_gull . ? otter_ivy :"
    assert read_problem(prompt, TERSE).answer == 9
    mentioned = "heron_gull 5 . " + prompt
    assert read_problem(mentioned, TERSE).answer == 14
    nested = "lion_gull 3 . gull_lion_newborn 4 . owl_gull 2 . gull_owl_newborn 5 . ? newborn_gull :"
    problem = read_problem(nested, TERSE)
    assert problem.answer == 3 * 4 + 2 * 5
    assert problem.graph.nodes[problem.query].operation in IMPLICIT
