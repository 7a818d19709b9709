"""Laws of the certificate: it holds for the grader as it is, and a grader that is too kind or too strict breaks it."""

import dataclasses
from pathlib import Path

import pytest

from gsm_lab import problems
from gsm_lab.errors import DataError
from gsm_lab.problems import MUTATIONS, Verdict, grade
from gsm_lab.study import certificate, certify


def test_the_certificate_holds():
    found = certify(40, 5, 0)
    assert found.holds
    assert found.lines[0] == "perfect solver, from the text alone: 40 of 40 verified"
    assert found.lines[1].endswith("cannot be read: 0; premises lost: 0")
    assert found.lines[2] == "gold solutions: 40 of 40 verified"
    assert found.lines[-1] == "the laws hold"
    caught = found.lines[4:-1]
    assert [line.split()[0] for line in caught] == list(MUTATIONS)
    assert all("5 of 5 caught" in line for line in caught)


def test_all_kinds_of_problems_are_among_those_that_are_solved():
    kinds = certify(240, 1, 0).lines[3]
    for kind in ("forward", "reverse", "chinese", "symbolic", "museum", "think", "answer_only", "reversed"):
        assert f"{kind} " in kinds


def test_workers_change_nothing():
    assert certify(300, 1, 3, workers=2) == certify(300, 1, 3)


def test_a_solver_that_misses_a_premise_breaks_the_law(monkeypatch):
    """One that takes the first number of the text for the answer."""
    monkeypatch.setattr(certificate, "solve_text", lambda prompt, template, style, rng: " Answer: 1.")
    found = certify(10, 1, 0)
    assert not found.holds
    assert any(line.startswith("  failed: ") for line in found.lines)


def test_a_faulty_context_is_told_all_that_is_wrong_with_it(tmp_path):
    text = (Path(problems.__file__).parent / "contexts" / "zoo.toml").read_text(encoding="utf-8")
    faulty = tmp_path / "faulty.toml"
    faulty.write_text(text.replace("Birch Hollow Park", "Ashgrove Zoo").replace("adult lions", "adult lion"))
    found = certify(10, 1, 0, contexts=[str(faulty)])
    assert not found.holds
    assert any("calls two quantities" in line for line in found.lines)
    assert any("'adult lion'" in line and "same plural" in line for line in found.lines)


def test_a_context_of_ones_own_is_certified_in_all_frames_of_its_language(tmp_path):
    text = (Path(problems.__file__).parent / "contexts" / "zoo.toml").read_text(encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(text.replace('name = "zoo"', 'name = "own"').replace("adult lion", "pygmy hippo"))
    found = certify(60, 1, 0, contexts=[str(own)])
    assert found.holds, found.lines
    assert "own 60" in found.lines[3]
    assert "english" in found.lines[3]
    assert "chinese" not in found.lines[3]


def test_a_lenient_grader_breaks_the_law(monkeypatch):
    """One that looks at the answer only, as most do."""

    def by_answer(exercise, completion):
        result = grade(exercise, completion)
        return dataclasses.replace(result, verdict=Verdict.CORRECT) if result.answer_correct else result

    monkeypatch.setattr(certificate, "grade", by_answer)
    found = certify(10, 5, 0)
    assert not found.holds
    assert found.lines[-1] == "A LAW IS BROKEN"
    assert found.lines[0] == "perfect solver, from the text alone: 10 of 10 verified"
    assert any("0 of 5 caught; 5 of them kept the right answer" in line for line in found.lines)


def test_a_grader_that_wants_the_gold_text_breaks_the_law(monkeypatch):
    def by_text(exercise, completion):
        result = grade(exercise, completion)
        return result if completion == exercise.completion else dataclasses.replace(result, verdict=Verdict.WRONG)

    monkeypatch.setattr(certificate, "grade", by_text)
    found = certify(20, 1, 0)
    assert not found.holds
    assert any(line.startswith("  failed: ") for line in found.lines)


def test_the_certificate_is_a_function_of_its_seed():
    assert certify(5, 2, 1) == certify(5, 2, 1)


@pytest.mark.parametrize(("problems", "mutations"), [(0, 5), (5, 0), (0, 0), (-1, 5)])
def test_what_was_never_tried_is_not_certified(problems, mutations):
    with pytest.raises(DataError, match="prove nothing: give 1 or more of each"):
        certify(problems, mutations, 0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_laws_hold_at_full_size():
    certificate = certify(200_000, 1_000, seed=1, workers=2)
    assert certificate.holds, certificate.lines
