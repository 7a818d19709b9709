"""What is rendered can be read back, and identity does not depend on words."""

import json
import random

import pytest

from gsm_lab.errors import DataError, SpecError, TemplateError
from gsm_lab.problems import (
    DependencyGraph,
    Exercise,
    Node,
    Operation,
    Problem,
    ProblemSpec,
    Quantity,
    Style,
    draw_problem,
    known_contexts,
    known_frames,
    load_template,
    problem_id,
    read_problem,
    render,
)

TERSE = load_template("zoo", "terse")


def test_the_text_tells_the_whole_problem(exercises):
    for exercise, template in exercises:
        assert problem_id(read_problem(exercise.prompt, template)) == exercise.problem_id


def test_identity_is_the_same_in_other_words_orders_and_letters():
    for seed in range(30):
        problem = draw_problem(ProblemSpec(op=2 + seed % 15), random.Random(seed))
        ids = {
            problem_id(read_problem(render(problem, template, random.Random(other)).prompt, template))
            for context in known_contexts()
            for frames in known_frames()
            for other in range(3)
            if (template := load_template(context, frames))
        }
        assert ids == {problem_id(problem)}


def test_identity_differs_where_problems_differ():
    a, b, c = Quantity(0, 0), Quantity(0, 1), Quantity(1, 1)
    leaves = (Node(a, Operation.CONSTANT, 3), Node(b, Operation.CONSTANT, 5))
    variants = [
        Problem(DependencyGraph((*leaves, Node(c, Operation.DIFFERENCE, None, (b, a)))), c),
        Problem(DependencyGraph((*leaves, Node(c, Operation.DIFFERENCE, None, (a, b)))), c),
        Problem(DependencyGraph((*leaves, Node(c, Operation.SUM, None, (a, b)))), c),
        Problem(DependencyGraph((*leaves, Node(c, Operation.SUM, None, (a, b)))), c, modulus=10),
        Problem(DependencyGraph((*leaves, Node(c, Operation.SUM, None, (a, b)))), a),
        Problem(DependencyGraph((*leaves, Node(c, Operation.PLUS, 1, (a, b)))), c),
        Problem(DependencyGraph((leaves[0], Node(b, Operation.CONSTANT, 6), Node(c, Operation.SUM, None, (a, b)))), c),
    ]
    assert len({problem_id(problem) for problem in variants}) == len(variants)
    swapped = Problem(DependencyGraph((*leaves[::-1], Node(c, Operation.SUM, None, (b, a)))), c)
    assert problem_id(swapped) == problem_id(variants[2])


def test_an_exercise_survives_json(exercises):
    for exercise, _ in exercises[:50]:
        assert Exercise.from_dict(json.loads(json.dumps(exercise.to_dict()))) == exercise


def test_a_value_that_is_no_exercise_is_refused():
    with pytest.raises(DataError, match="not an exercise"):
        Exercise.from_dict({"prompt": "x"})


def test_text_in_order_of_computation_defines_before_it_uses():
    problem = draw_problem(ProblemSpec(op=15, implicit_totals=0), random.Random(1))
    exercise = render(problem, TERSE, random.Random(2), Style(sentence_order="computation"))
    heads = [fact.split(" ")[0] for fact in exercise.prompt.split(" . ")[:-1]]
    assert heads == list(exercise.names)
    shuffled = render(problem, TERSE, random.Random(2), Style(sentence_order="shuffled"))
    assert shuffled.prompt != exercise.prompt


def test_a_goal_directed_trace_unfolds_from_the_question():
    problem = draw_problem(ProblemSpec(op=15), random.Random(1))
    exercise = render(problem, TERSE, random.Random(2), Style(trace_order="goal_directed"))
    asked = exercise.names[[node.name for node in problem.graph.nodes].index(problem.query)]
    assert exercise.completion.startswith(f" find {asked} ")
    leaf_first = render(problem, TERSE, random.Random(2), Style(trace_order="leaf_first"))
    assert "find" not in leaf_first.completion


def test_too_few_nouns_are_refused():
    problem = draw_problem(ProblemSpec(op=15), random.Random(1))
    with pytest.raises(TemplateError, match="'zoo' has 2 and 2: draw with places and items that low"):
        render(problem, TERSE.limited(2, 2), random.Random(0))


def test_names_that_do_not_fit_the_graph_are_refused(exercises):
    value = exercises[0][0].to_dict()
    for names in (value["names"][1:], [value["names"][0]] * len(value["names"])):
        with pytest.raises(DataError, match=r"names for .* quantities"):
            Exercise.from_dict(value | {"names": names})


def test_unknown_orders_are_refused():
    with pytest.raises(SpecError, match="trace_order='random': give one of"):
        Style(trace_order="random")


def test_an_unknown_context_lists_the_known_ones():
    with pytest.raises(
        TemplateError, match="no contexts 'farm': give one of bakery, festival, harbour, museum, school, zoo"
    ):
        load_template("farm")


def test_a_context_of_your_own_is_one_file(tmp_path):
    home = next(iter((known_contexts(),)))
    assert home
    text = load_template.__globals__["_HOME"].joinpath("contexts/zoo.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('name = "zoo"', 'name = "mine"').replace("adult lion", "red ant"))
    template = load_template(tmp_path / "mine.toml")
    exercise = render(draw_problem(ProblemSpec(op=6), random.Random(0)), template, random.Random(0))
    assert exercise.context == "mine"
    assert problem_id(read_problem(exercise.prompt, template)) == exercise.problem_id


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('many = "adult lions"', 'many = "brown otters"', "gives two quantities the name"),
        ('many = "adult lions"', 'many = "lions; 3"', "holds a mark of the grammar"),
        ("[category]", "[other]", "lacks or misplaces 'category'"),
        ("[category]", "[category", "not valid TOML"),
    ],
)
def test_a_bad_context_says_what_is_wrong(tmp_path, old: str, new: str, message: str):
    text = load_template.__globals__["_HOME"].joinpath("contexts/zoo.toml").read_text()
    (tmp_path / "bad.toml").write_text(text.replace(old, new))
    with pytest.raises(TemplateError, match=message):
        load_template(tmp_path / "bad.toml")


def test_a_noun_that_solutions_cannot_hold_is_refused(tmp_path):
    text = load_template.__globals__["_HOME"].joinpath("contexts/zoo.toml").read_text()
    (tmp_path / "bad.toml").write_text(text.replace('short = "ashgrove"', 'short = "ash = grove"'))
    with pytest.raises(TemplateError, match="holds a mark"):
        load_template(tmp_path / "bad.toml", "terse")
    (tmp_path / "bad.toml").write_text(text.replace('many = "adult lions"', f'many = "{"very " * 50}old lions"'))
    with pytest.raises(TemplateError, match="cannot be read: give a shorter noun"):
        load_template(tmp_path / "bad.toml", "english")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("lion_ashgrove 3 .", "no question"),
        ("lion_ashgrove is 3 . ? lion_ashgrove :", "could not be read"),
        ("lion_ashgrove 3 . lion_ashgrove 4 . ? lion_ashgrove :", "defined twice"),
        ("lion_ashgrove owl_gull + 1 . ? lion_ashgrove :", "could not be read"),
        ("lion_ashgrove 1 + owl_gull . ? lion_ashgrove :", "does not settle"),
    ],
)
def test_the_reader_refuses_texts_that_cannot_be_solved(prompt: str, message: str):
    with pytest.raises(TemplateError, match=message):
        read_problem(prompt, TERSE)
