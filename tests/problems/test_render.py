"""A problem in words: orders of sentences, names, JSON, and how far apart templates are."""

import json
import math
import random

import pytest

from gsm_lab.errors import DataError, TemplateError
from gsm_lab.problems import (
    DISTANCES,
    Exercise,
    ProblemSpec,
    Style,
    Template,
    draw_problem,
    known_contexts,
    known_frames,
    load_template,
    render,
)
from gsm_lab.problems.grammar import FORMS
from gsm_lab.problems.graph import IMPLICIT
from gsm_lab.problems.style import SENTENCE_ORDERS

TERSE = load_template("zoo", "terse")


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_text_in_order_of_computation_defines_before_it_uses(mode: str):
    seen = 0
    for seed in range(200):
        rng = random.Random(seed)
        spec = ProblemSpec(op=rng.randint(2, 25), mode=mode, implicit_totals=0.4, nested_totals=0.4)
        problem = draw_problem(spec, rng)
        disorder = {
            order: render(problem, TERSE, rng, Style(sentence_order=order)).disorder for order in SENTENCE_ORDERS
        }
        if math.isnan(disorder["computation"]):
            continue
        seen += 0 < disorder["shuffled"] < 1
        assert disorder["computation"] == 0
        assert disorder["reversed"] == 1
    assert seen > 120, "and a shuffled text is neither"


def test_the_disorder_is_that_of_the_text():
    """Counted from the words alone: what a sentence is about is its first word."""
    problem = draw_problem(ProblemSpec(op=15, implicit_totals=0, distractors=5), random.Random(1))
    for order, wanted in (("computation", 0), ("reversed", 1)):
        exercise = render(problem, TERSE, random.Random(2), Style(sentence_order=order))
        facts = [fact.split(" ") for fact in exercise.prompt.split(" . ")[:-1]]
        rank = {fact[0]: at for at, fact in enumerate(facts)}
        late = [rank[word] > rank[fact[0]] for fact in facts for word in fact[1:] if word in rank]
        assert late
        assert set(late) == {bool(wanted)}
        assert exercise.disorder == wanted


def test_every_quantity_but_totals_is_told_once(exercises):
    for exercise, _ in exercises:
        nodes = exercise.problem.graph.nodes
        stated = [place for place, node in enumerate(nodes) if node.operation not in IMPLICIT]
        assert sorted(exercise.sentences) == stated


def test_the_value_of_the_unknown_is_not_told():
    for seed in range(100):
        problem = draw_problem(ProblemSpec(op=8, mode="reverse", distractors=0), random.Random(seed))
        exercise = render(problem, TERSE, random.Random(seed))
        facts = exercise.prompt.split(" . ")
        assert [fact for fact in facts if fact.startswith(f"{exercise.asked_name} ")] == [f"{exercise.asked_name} ?"]
        top = exercise.names[problem.top]
        assert f"given {top} {problem.values[problem.top]}" in facts


def test_rules_are_said_exactly_for_the_totals_there_are():
    for seed in range(100):
        problem = draw_problem(ProblemSpec(op=10, implicit_totals=0.5, nested_totals=0.5), random.Random(seed))
        kinds = {node.operation for node in problem.graph.nodes if node.operation in IMPLICIT}
        plain = render(problem, TERSE, random.Random(seed), Style())
        ruled = render(problem, TERSE, random.Random(seed), Style(rules=True))
        rules = [TERSE.rule(kind) for kind in ("total", "yield")]
        assert not any(rule in plain.prompt for rule in rules)
        assert [rule in ruled.prompt for rule in rules] == ["total" in kinds, "nested_total" in kinds]
        assert ruled.prompt.endswith(plain.prompt)


def test_every_style_survives_json(exercises):
    for number, (exercise, template) in enumerate(exercises[:120]):
        rng = random.Random(number)
        style = Style(form=FORMS[number % 3], checks=0.5, recovery=0.5, trace_order="random", rules=True)
        for one in (exercise, render(exercise.problem, template, rng, style)):
            copy = Exercise.from_dict(json.loads(json.dumps(one.to_dict())))
            assert copy == one
            assert copy.identities == one.identities
            assert copy.sizes() == one.sizes()


def test_every_template_survives_json():
    for context in known_contexts():
        for frames in known_frames():
            template = load_template(context, frames)
            copy = Template.from_dict(json.loads(json.dumps(template.to_dict())))
            assert copy == template
            assert hash(copy) == hash(template)
            problem = draw_problem(ProblemSpec(op=12, implicit_totals=0.5), random.Random(0))
            assert render(problem, copy, random.Random(0)) == render(problem, template, random.Random(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: {"prompt": "x"}, "not an exercise"),
        (lambda value: value | {"names": value["names"][1:]}, "names for .* quantities"),
        (lambda value: value | {"names": [value["names"][0]] * len(value["names"])}, "names for .* quantities"),
        (lambda value: value | {"names": 3}, "not an exercise"),
        (lambda value: value | {"style": {"form": "poem"}}, "form='poem'"),
        (lambda value: value | {"style": {"colour": "red"}}, "not an exercise"),
        (lambda value: value | {"grammar": {}}, "not an exercise"),
        (lambda value: value | {"grammar": value["grammar"] | {"step": "so"}}, r"lacks the slots"),
        (lambda value: value | {"problem": None}, "not an exercise"),
        (lambda value: value | {"problem": value["problem"] | {"query": 99}}, "the graph has the quantities"),
        (lambda value: value | {"problem": value["problem"] | {"query": "0"}}, "not an exercise"),
        (lambda value: value | {"problem": value["problem"] | {"nodes": [[1, 2]]}}, "not an exercise"),
        (lambda value: value | {"problem": value["problem"] | {"nodes": value["problem"]["nodes"][::-1]}}, "exercise"),
    ],
)
def test_a_value_that_is_no_exercise_is_refused(change, message: str):
    value = render(draw_problem(ProblemSpec(op=9), random.Random(0)), TERSE, random.Random(0)).to_dict()
    assert Exercise.from_dict(value)
    with pytest.raises(DataError, match=message):
        Exercise.from_dict(change(value))


def test_too_few_nouns_are_refused():
    problem = draw_problem(ProblemSpec(op=15), random.Random(1))
    with pytest.raises(TemplateError, match="'zoo' has 2 places and 2 items: draw with places and items that low"):
        render(problem, TERSE.limited(2, 2), random.Random(0))
    few = draw_problem(ProblemSpec(op=4, places=2, items=2, distractors=0), random.Random(1))
    assert render(few, TERSE.limited(2, 2), random.Random(0)).prompt


def test_more_nouns_than_there_are_are_refused():
    with pytest.raises(TemplateError, match="600 places and 10 items are wanted, 'zoo' has 586 and 10"):
        TERSE.limited(600, 10)


def test_further_places_come_only_where_ten_are_not_enough():
    own = {dict(place)["short"] for place in TERSE.places[:10]}
    for seed in range(50):
        exercise = render(draw_problem(ProblemSpec(op=20), random.Random(seed)), TERSE, random.Random(seed))
        assert all(any(short in name for short in own) for name in exercise.names)
    long = render(draw_problem(ProblemSpec(op=100, distractors=200), random.Random(0)), TERSE, random.Random(0))
    assert not all(any(short in name for short in own) for name in long.names)


def test_distances_are_named():
    zoo, school = load_template("zoo"), load_template("school")
    assert zoo.distance(zoo) == "same"
    assert zoo.distance(school) == "nouns"
    assert zoo.distance(load_template("zoo", "paraphrase")) == "frames"
    assert zoo.distance(load_template("school", "terse")) == "frames"
    assert zoo.distance(load_template("zoo", "chinese")) == "language"
    assert zoo.distance(load_template("zoo", "symbolic")) == "frames"
    templates = [load_template(context, frames) for context in known_contexts() for frames in known_frames()]
    assert {one.distance(other) for one in templates for other in templates} == set(DISTANCES)
    assert all(one.distance(other) == other.distance(one) for one in templates for other in templates)


def test_the_same_stream_gives_the_same_words():
    problem = draw_problem(ProblemSpec(op=12, mode="reverse"), random.Random(0))
    style = Style(checks=0.5, recovery=0.5, trace_order="random")
    assert render(problem, TERSE, random.Random(1), style) == render(problem, TERSE, random.Random(1), style)
    assert render(problem, TERSE, random.Random(1), style) != render(problem, TERSE, random.Random(2), style)
