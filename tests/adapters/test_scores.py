"""Rewards, scores and rows as other frameworks see them; no framework is needed here."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from gsm_lab.adapters import (
    compute_score,
    drawn_exercise,
    exercise_of,
    exercise_text,
    process_results,
    read_rows,
    row_of,
    trl_reward,
    write_rows,
)
from gsm_lab.errors import DataError, RecipeError
from gsm_lab.problems import Exercise, grade, rewards
from gsm_lab.seeds import stream

EXERCISES = [drawn_exercise(index, seed=0, ops=(4, 8)) for index in range(20)]


def lucky(exercise: Exercise) -> str:
    """The right answer without its steps."""
    return " Answer: " + str(exercise.answer) + "."


def columns_of(exercises: Sequence[Exercise]) -> dict[str, list]:
    """The columns that TRL gives to a reward."""
    rows = [row_of(exercise) for exercise in exercises]
    return {key: [row[key] for row in rows] for key in rows[0] if key not in ("prompt", "completion")}


def test_a_row_gives_back_its_exercise():
    for exercise in EXERCISES:
        row = row_of(exercise)
        assert exercise_of(row["exercise"]) == exercise
        assert (row["prompt"], row["completion"]) == (exercise.prompt, exercise.completion)
        assert row_of(exercise, messages=True)["prompt"] == [{"role": "user", "content": exercise.prompt}]


def test_rows_go_through_a_file(tmp_path: Path):
    write_rows(tmp_path / "rows.jsonl", EXERCISES)
    assert list(read_rows(tmp_path / "rows.jsonl")) == EXERCISES


@pytest.mark.parametrize("line", ["no json", '{"prompt": "x"}', "[]"])
def test_a_file_of_something_else_is_refused_with_its_line(tmp_path: Path, line: str):
    write_rows(tmp_path / "rows.jsonl", EXERCISES[:1])
    with open(tmp_path / "rows.jsonl", "a") as lines:
        lines.write(line + "\n")
    with pytest.raises(DataError, match=r"line 2 of .* is no row of an exercise"):
        list(read_rows(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("text", "message"), [("6", "not an exercise"), ("{}", "not an exercise"), ("{", "is no JSON")]
)
def test_a_ground_truth_that_is_no_exercise_is_refused(text: str, message: str):
    with pytest.raises(DataError, match=message):
        compute_score("gsm_lab/op4", "", text)


def test_drawn_exercises_are_a_function_of_seed_and_index():
    assert drawn_exercise(3, seed=1) == drawn_exercise(3, seed=1)
    # seed + index would make these equal
    assert drawn_exercise(3, seed=1) != drawn_exercise(2, seed=2)


def test_every_op_of_the_range_is_drawn_and_no_other():
    assert {drawn_exercise(index, seed=0, ops=(3, 5)).op for index in range(60)} == {3, 4, 5}


def test_settings_and_words_are_passed_on():
    exercise = drawn_exercise(0, seed=0, ops=(6, 6), context="school", frames="terse", mode="reverse", distractors=2)
    assert (exercise.context, exercise.frames, exercise.problem.mode) == ("school", "terse", "reverse")
    assert exercise.sizes()["distractors"] == 2


@pytest.mark.parametrize("name", ["outcome", "process", "mix", "gated", "strict"])
def test_the_trl_reward_is_the_reward_of_that_name(name: str):
    completions = [lucky(one) if place % 2 else one.completion for place, one in enumerate(EXERCISES)]
    got = trl_reward(name, 0.25)(prompts=[], completions=completions, completion_ids=[], **columns_of(EXERCISES))
    reward_of = rewards.named_reward(name, 0.25)
    assert got == [reward_of(grade(one, text)) for one, text in zip(EXERCISES, completions, strict=True)]
    assert len(set(got)) == 1 if name == "outcome" else len(set(got)) > 1


def test_the_trl_reward_logs_verdicts_and_means():
    extra: dict[str, list] = {}
    metrics: dict[str, float] = {}
    exercises = EXERCISES[:4]
    completions = [exercises[0].completion, lucky(exercises[1]), f" Answer: {exercises[2].answer + 1}.", "?"]
    reward = trl_reward("strict")
    reward(
        prompts=[],
        completions=completions,
        completion_ids=[],
        log_extra=extra.__setitem__,
        log_metric=metrics.__setitem__,
        trainer_state=None,
        **columns_of(exercises),
    )
    assert reward.__name__ == "gsm_lab_strict"
    assert extra["verdict"] == ["correct", "lucky", "wrong", "unreadable"]
    assert [bool(error) for error in extra["first_error"]] == [False, True, True, True]
    # of four: one is verified, two have the right answer
    assert (metrics["gsm_lab/verified"], metrics["gsm_lab/answer_correct"]) == (0.25, 0.5)
    assert (metrics["gsm_lab/lucky"], metrics["gsm_lab/unreadable"]) == (0.25, 0.25)


def test_messages_are_graded_as_their_words():
    (exercise,) = EXERCISES[:1]
    said = row_of(exercise, messages=True)["completion"]
    assert trl_reward()([said], [exercise_text(exercise)]) == [1.0]
    assert trl_reward()([[{"role": "assistant", "content": None}]], [exercise_text(exercise)]) == [0.0]


def test_a_completion_without_its_end_is_truncated():
    texts, completions = [exercise_text(EXERCISES[0])] * 3, [EXERCISES[0].completion] * 3
    ids = [[5, 1], [5, 5], []]
    assert trl_reward("strict", end_ids=[1])(completions, texts, completion_ids=ids) == [1.0, 0.0, 0.0]
    assert trl_reward("strict")(completions, texts, completion_ids=ids) == [1.0, 1.0, 1.0]


def test_a_reward_that_does_not_exist_is_refused_before_training():
    with pytest.raises(RecipeError, match="there is no reward 'sharp'"):
        trl_reward("sharp")


def test_verl_gets_reward_accuracy_and_answer():
    (exercise,) = EXERCISES[:1]
    gold = compute_score("gsm_lab/op4", exercise.completion, exercise_text(exercise), {"index": 0})
    assert (gold["score"], gold["acc"], gold["pred"]) == (1.0, 1.0, str(exercise.answer))
    luck = compute_score("gsm_lab/op4", lucky(exercise), exercise_text(exercise), reward="mix", alpha=0.25)
    assert (luck["score"], luck["acc"], luck["pred"], luck["lucky"]) == (0.25, 0.0, str(exercise.answer), 1.0)
    assert compute_score("gsm_lab/op4", "?", exercise_text(exercise))["pred"] == ""


def test_lm_eval_gets_the_scores_of_the_first_completion():
    row = row_of(EXERCISES[0])
    assert process_results(row, [row["completion"], "?"])["verified"] == 1.0
    assert process_results(row, ["?", row["completion"]])["verified"] == 0.0


def test_no_text_makes_a_score_fail_or_leave_its_range():
    rng = stream(0, "any text")
    text = exercise_text(EXERCISES[0])
    for _ in range(300):
        cut = rng.randrange(len(EXERCISES[0].completion))
        noise = "".join(
            chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x2FFF)))) for _ in range(rng.randrange(9))
        )
        got = compute_score("gsm_lab/op4", EXERCISES[0].completion[:cut] + noise, text, reward="mix")
        assert all(0 <= value <= 1 for value in got.values() if not isinstance(value, str))


def test_groups_share_their_exercise():
    text = json.dumps({**EXERCISES[1].to_dict(), "context": "asked once"})
    before = exercise_of.cache_info().misses
    trl_reward()(["?"] * 8, [text] * 8)
    assert exercise_of.cache_info().misses == before + 1
