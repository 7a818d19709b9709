"""Words of the grammar are words like others: decoding keeps them, and nothing is graded without them."""

import itertools

import pytest

from gsm_lab.data import Tokenizer
from gsm_lab.problems import ProblemSpec, Style, draw_problem, grade, load_template, render
from gsm_lab.seeds import stream

FORMS = (Style(), Style(form="think", checks=0.5), Style(form="answer_only"))
TEMPLATE = load_template("zoo", "english").limited(10, 10)
TOKENIZER = Tokenizer.for_templates([TEMPLATE])


def gold_survives(words: set[str]) -> bool:
    """Whether 600 solutions keep their grade when decoding drops the tokens of these words, as if they were special."""
    for number, style in itertools.product(range(200), FORMS):
        problem = draw_problem(ProblemSpec(op=2 + number % 6), stream(0, "problem", number))
        exercise = render(problem, TEMPLATE, stream(0, "words", number), style)
        ids = [*TOKENIZER.encode(exercise.completion), TOKENIZER.eos_id]
        kept = [token_id for token_id in ids if TOKENIZER.tokens[token_id].strip() not in words]
        if grade(exercise, TOKENIZER.decode(kept)) != grade(exercise, exercise.completion):
            return False
    return True


def test_special_tokens_are_the_only_ones_that_grading_can_do_without():
    assert gold_survives(set())
    assert gold_survives({"<pad>", "<eos>"})


@pytest.mark.parametrize("word", ["Answer", "=", "Define", "<", "think"])
def test_near_miss_a_word_of_the_grammar_that_were_special_would_be_missed(word):
    assert not gold_survives({word})
