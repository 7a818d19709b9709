"""Laws of the certificate: it holds for the grader as it is, and a grader that is too kind or too strict breaks it."""

import dataclasses
import json
from pathlib import Path

import pytest

from gsm_lab import problems
from gsm_lab.data import ExerciseSource, Mixture, Slice, write_dataset
from gsm_lab.errors import DataError, SpecError
from gsm_lab.problems import EQUIVALENCES, MUTATIONS, ProblemSpec, Verdict, grade
from gsm_lab.study import certificate, certify, fuzz
from gsm_lab.study.certificate import check_document
from gsm_lab.study.certificate_page import lines_of, summed
from gsm_lab.study.certificate_source import Source, pairs_of

SMALL = {"num_equivalences": 2, "num_fuzz": 40, "is_timed": False}


@pytest.fixture(scope="module")
def found():
    return certify(60, 3, 0, **SMALL)


def test_the_certificate_holds(found):
    assert found.holds, found.lines
    assert found.lines[0] == "perfect solver, from the text alone: 60 of 60 verified"
    assert found.lines[1].endswith("cannot be read: 0; premises lost: 0")
    assert found.lines[2] == "gold solutions: 60 of 60 verified, 60 literally"
    assert found.lines[3].endswith("60 of 60 verified, 60 literally")
    assert found.lines[-1] == "the laws hold"


def test_every_class_is_tried_in_every_mode_that_has_a_place_for_it(found):
    figures = found.signed["figures"]
    assert set(figures["mutations"]) == set(MUTATIONS)
    assert set(figures["equivalences"]) == set(EQUIVALENCES)
    for group, least in (("mutations", 3), ("equivalences", 2)):
        for kind, modes in figures[group].items():
            for mode, frames in modes.items():
                assert summed(frames)["tried"] >= least, (kind, mode)
    assert set(figures["mutations"]["wrong_value"]) == {"forward", "reverse"}
    assert set(figures["mutations"]["wrong_equation"]) == {"reverse"}
    assert set(figures["mutations"]["carried_slip"]) == {"forward"}


def test_all_kinds_of_problems_are_among_those_that_are_solved(found):
    kinds = found.signed["figures"]["kinds"]
    wanted = {"forward", "reverse", "chinese", "symbolic", "museum", "think", "answer_only", "reversed", "zoo"}
    assert wanted <= set(kinds)


def test_guesses_and_identities_have_figures(found):
    figures = found.signed["figures"]
    assert {(row["op"], row["mode"]) for row in figures["guesses"]} >= {(2, "forward"), (32, "reverse")}
    assert figures["identities"]["in two splits"] == 0
    assert figures["identities"]["pretrain"] > 50


def test_workers_change_no_figure_and_only_times_are_not_signed():
    one, two = certify(120, 1, 3, **SMALL), certify(120, 1, 3, workers=2, **SMALL)
    assert one == two
    assert one.document()["checksum"] == two.document()["checksum"]
    assert (one.times["workers"], two.times["workers"]) == (1, 2)


def test_another_seed_gives_another_certificate(found):
    other = certify(60, 3, 1, **SMALL)
    assert other.holds
    assert other.document()["checksum"] != found.document()["checksum"]


def test_a_document_is_read_back_and_a_changed_figure_is_seen(found):
    document = json.loads(json.dumps(found.document()))
    assert check_document(document) == found
    document["figures"]["solver"]["solved"] += 1
    with pytest.raises(DataError, match="they were changed after they were signed"):
        check_document(document)


def test_times_may_change_without_breaking_the_seal(found):
    document = json.loads(json.dumps(found.document()))
    document["times"]["seconds"] = 10**6
    assert check_document(document) == found


def test_a_foreign_document_is_refused():
    with pytest.raises(DataError, match="this is not a gsm_lab certificate"):
        check_document({"format": "something else"})


def test_a_slow_machine_breaks_a_law_that_is_not_signed(monkeypatch):
    monkeypatch.setattr(certificate, "hostile_of", lambda source, index: 99.0)
    slow = certify(5, 1, 0, num_equivalences=1, num_fuzz=8)
    assert not slow.holds
    assert slow.signed["holds"]
    assert any("takes 99.00 s at most" in line for line in slow.lines)


def test_the_page_holds_all_classes_and_escapes_what_others_wrote(found):
    page = found.page()
    assert "The laws hold." in page
    assert all(f"<td>{kind}</td>" in page for kind in (*MUTATIONS, *EQUIVALENCES))
    assert page.count("<details>") == 2
    (wrong,) = [
        line for line in lines_of(found.signed, found.times, by_class=False) if line.startswith("wrong solutions")
    ]
    num_tried = sum(
        count["tried"]
        for modes in found.signed["figures"]["mutations"].values()
        for frames in modes.values()
        for count in frames.values()
    )
    assert wrong.startswith(f"wrong solutions, {len(MUTATIONS)} classes: {num_tried} of {num_tried} caught; ")
    assert f"<li>{wrong}</li>" in page
    assert "src=" not in page
    assert "href=" not in page
    example = {"law": "<script>", "times": 1, "examples": [{"text": "</pre><script>alert(1)</script>"}]}
    broken = dataclasses.replace(found, signed={**found.signed, "broken": [example], "holds": False})
    page = broken.page()
    assert "A law is broken." in page
    assert "<script>" not in page


def test_settings_hold_for_all_exercises():
    one = certify(20, 1, 0, frames=["english"], settings={"modulus": 7, "op": 6, "form": "think"}, **SMALL)
    kinds = one.signed["figures"]["kinds"]
    assert one.holds, one.lines
    assert (kinds["think"], kinds["english"], kinds["forward"]) == (20, 20, 20)
    assert "reverse" not in kinds
    assert set(one.signed["figures"]["mutations"]["wrong_value"]) == {"forward"}


def test_settings_that_contradict_each_other_are_refused_at_once():
    with pytest.raises(SpecError, match="contradict each other"):
        certify(10**9, 1, 0, settings={"modulus": 7, "mode": "reverse"})


def test_a_data_set_is_certified(tmp_path):
    modes = ("forward", "reverse")
    mixture = Mixture(tuple(Slice(ProblemSpec(op=6, mode=mode), weight=0.5) for mode in modes))
    sources = [ExerciseSource(mixture, split, 0) for split in ("rl", "test")]
    folder = write_dataset(tmp_path / "set", sources, [30, 20], 50, None)
    own = certify(50, 1, 0, data=folder, **SMALL)
    assert own.holds, own.lines
    assert own.signed["figures"]["kinds"]["english"] == 50
    assert own.signed["figures"]["identities"] == {"rl": 30, "test": 20, "in two splits": 0}


def test_a_data_set_brings_its_own_words(tmp_path):
    with pytest.raises(DataError, match="leave out contexts, frames and settings, or data"):
        certify(5, 1, 0, contexts=["zoo"], data=tmp_path)


def test_a_solver_that_misses_a_premise_breaks_the_law(monkeypatch):
    """One that takes the first number of the text for the answer."""
    monkeypatch.setattr(certificate, "solve_text", lambda prompt, template, style, rng: " Answer: 1.")
    one = certify(10, 1, 0, **SMALL)
    assert not one.holds
    law = next(law for law in one.signed["broken"] if law["law"] == "the perfect solver is right")
    assert law["times"] >= 5
    assert {"stream", "text", "prompt", "reason", "problem_id"} <= set(law["examples"][0])


def test_a_broken_law_can_be_seen_again(monkeypatch):
    """The stream of an example names the exercise."""
    monkeypatch.setattr(certificate, "solve_text", lambda prompt, template, style, rng: "")
    one = certify(4, 1, 5, **SMALL)
    example = one.signed["broken"][0]["examples"][0]
    seed, part, index = example["stream"]
    source = Source(seed, pairs_of((), ()))
    assert source.exercise(part, index)[0].prompt == example["prompt"]


def test_a_faulty_context_is_told_all_that_is_wrong_with_it(tmp_path):
    text = (Path(problems.__file__).parent / "contexts" / "zoo.toml").read_text(encoding="utf-8")
    faulty = tmp_path / "faulty.toml"
    faulty.write_text(text.replace("Birch Hollow Park", "Ashgrove Zoo").replace("adult lions", "adult lion"))
    found = certify(10, 1, 0, contexts=[str(faulty)], **SMALL)
    assert not found.holds
    assert any("calls two quantities" in line for line in found.lines)
    assert any("'adult lion'" in line and "same plural" in line for line in found.lines)


def test_a_context_of_ones_own_is_certified_in_all_frames_of_its_language(tmp_path):
    text = (Path(problems.__file__).parent / "contexts" / "zoo.toml").read_text(encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(text.replace('name = "zoo"', 'name = "own"').replace("adult lion", "pygmy hippo"))
    found = certify(60, 1, 0, contexts=[str(own)], **SMALL)
    assert found.holds, found.lines
    kinds = found.signed["figures"]["kinds"]
    assert kinds["own"] == 60
    assert "english" in kinds
    assert "chinese" not in kinds


@pytest.mark.parametrize("answer", ["outcome {value}", "so {value} it is", "{value} out"])
def test_frames_may_say_the_answer_in_words_of_their_own(tmp_path, answer):
    """Where a step has no words, such an answer looks like one."""
    text = (Path(problems.__file__).parent / "frames" / "terse.toml").read_text(encoding="utf-8")
    own = tmp_path / "own.toml"
    assert text.count('answer = "answer {value}"') == 1
    own.write_text(text.replace('answer = "answer {value}"', f'answer = "{answer}"'))
    found = certify(60, 5, 0, contexts=["school"], frames=[str(own)], **SMALL)
    assert found.holds, found.lines


def test_a_lenient_grader_breaks_the_law(monkeypatch):
    """One that looks at the answer only, as most do."""

    def by_answer(exercise, completion):
        result = grade(exercise, completion)
        return dataclasses.replace(result, verdict=Verdict.CORRECT) if result.answer_correct else result

    monkeypatch.setattr(certificate, "grade", by_answer)
    one = certify(10, 5, 0, **SMALL)
    assert not one.holds
    assert one.lines[-1] == "A LAW IS BROKEN"
    assert one.lines[0] == "perfect solver, from the text alone: 10 of 10 verified"
    assert any(line.startswith("wrong_value ") and " 0 of " in line for line in one.lines)


def test_a_strict_grader_breaks_the_law(monkeypatch):
    """One that wants the words of the grammar."""

    def literally(exercise, completion):
        result = grade(exercise, completion)
        return result if result.literal else dataclasses.replace(result, verdict=Verdict.WRONG, first_error="words")

    monkeypatch.setattr(certificate, "grade", literally)
    one = certify(20, 1, 0, **SMALL)
    assert not one.holds
    assert {law["law"] for law in one.signed["broken"]} == {
        f"{kind} is accepted, not literal, and named" for kind in EQUIVALENCES
    }


def test_a_grader_that_raises_breaks_the_law(monkeypatch):
    def raising(exercise, text, finished=True):
        raise RuntimeError("oh")

    monkeypatch.setattr(fuzz, "grade", raising)
    one = certify(4, 1, 0, **SMALL)
    assert [law["law"] for law in one.signed["broken"]] == ["grading raises nothing: RuntimeError: oh"]


@pytest.mark.parametrize(("problems", "mutations"), [(0, 5), (5, 0), (0, 0), (-1, 5)])
def test_what_was_never_tried_is_not_certified(problems, mutations):
    with pytest.raises(DataError, match="prove nothing: give 1 or more of each"):
        certify(problems, mutations, 0)
    with pytest.raises(DataError, match="prove nothing: give 1 or more of each"):
        certify(1, 1, 0, num_fuzz=problems, num_equivalences=mutations)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_laws_hold_at_a_tenth_of_full_size():
    full = certify(20_000, 1_000, seed=1, workers=2)
    assert full.holds, full.lines
