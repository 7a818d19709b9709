"""Laws of the certificate: it holds for the grader as it is, and a grader that is too kind or too strict breaks it."""

import dataclasses

import pytest

from gsm_lab.errors import DataError
from gsm_lab.problems import MUTATIONS, Verdict, grade
from gsm_lab.study import certificate, certify


def test_the_certificate_holds():
    found = certify(40, 5, 0)
    assert found.holds
    assert found.lines[0] == "perfect solver, from the text alone: 40 of 40 verified"
    assert found.lines[-1] == "the laws hold"
    assert [line.split()[0] for line in found.lines[1:-1]] == list(MUTATIONS)
    assert all("5 of 5 caught" in line for line in found.lines[1:-1])


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
    assert found.lines[1].startswith("  failed: ")


def test_the_certificate_is_a_function_of_its_seed():
    assert certify(5, 2, 1) == certify(5, 2, 1)


@pytest.mark.parametrize(("problems", "mutations"), [(0, 5), (5, 0), (0, 0), (-1, 5)])
def test_what_was_never_tried_is_not_certified(problems, mutations):
    with pytest.raises(DataError, match="prove nothing: give 1 or more of each"):
        certify(problems, mutations, 0)


@pytest.mark.slow
def test_the_laws_hold_at_full_size():
    certificate = certify(10_000, 1_000, seed=1)
    assert certificate.holds, certificate.lines
