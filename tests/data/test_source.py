"""Laws of sources: exercise `index` is always the same, and splits share no problem."""

import pickle
from dataclasses import replace

import pytest

from gsm_lab.data import SPLITS, ExerciseSource, Mixture, Slice, split_of
from gsm_lab.errors import MixtureError, SpecError, TemplateError
from gsm_lab.problems import ProblemSpec, Style, draw_problem, load_template, render
from gsm_lab.seeds import stream


def test_an_exercise_is_a_pure_function_of_source_and_index(mixture):
    one, other = ExerciseSource(mixture, "rl", 5), ExerciseSource(mixture, "rl", 5)
    forwards = [one.at(index) for index in range(30)]
    backwards = [other.at(index) for index in reversed(range(30))]
    assert forwards == backwards[::-1]
    assert pickle.loads(pickle.dumps(one)).at(7) == one.at(7)


def test_no_exercise_of_a_seed_is_another_of_the_next_seed(mixture):
    """The near miss is `seed + index`: then 29 of 30 would be shared by seeds 5 and 6."""
    texts = [{ExerciseSource(mixture, "rl", seed).at(index).prompt for index in range(30)} for seed in (5, 6)]
    assert len(texts[0]) == 30
    assert len(texts[0] & texts[1]) == 0


def test_every_exercise_of_a_split_belongs_to_it_and_splits_share_none(mixture):
    identities = {
        split: {ExerciseSource(mixture, split, 1).at(index).problem_id for index in range(60)} for split in SPLITS
    }
    for split, own in identities.items():
        assert {split_of(identity) for identity in own} == {split}
    assert sum(map(len, identities.values())) == len(set.union(*identities.values()))


def test_near_miss_without_splits_small_problems_are_shared():
    """What law 5 prevents: 300 plain draws each of a small problem space have problems in common."""
    spec = ProblemSpec(op=2, distractors=(0, 0))
    template = load_template("zoo", "terse")
    drawn = [
        {render(draw_problem(spec, stream(0, name, i)), template, stream(1, i)).problem_id for i in range(300)}
        for name in ("train", "test")
    ]
    assert drawn[0] & drawn[1]


def test_one_problem_in_other_words_is_in_the_same_split(mixture):
    exercise = ExerciseSource(mixture, "test", 1).at(0)
    other = render(exercise.problem, load_template("festival", "english"), stream(9))
    assert other.prompt != exercise.prompt
    assert split_of(other.problem_id) == split_of(exercise.problem_id) == "test"


@pytest.mark.parametrize(
    ("share", "split"),
    [
        (0.0, "pretrain"),
        (0.399, "pretrain"),
        (0.401, "midtrain"),
        (0.599, "midtrain"),
        (0.601, "rl"),
        (0.801, "validation"),
        (0.849, "validation"),
        (0.851, "test"),
        (0.999, "test"),
    ],
)
def test_splits_are_intervals_of_the_space_of_identities(share, split):
    assert split_of(f"{int(share * 2**128):032x}") == split


def test_the_ends_of_the_space_belong_to_the_first_and_the_last_split():
    assert split_of("0" * 32) == "pretrain"
    assert split_of("f" * 32) == "test"
    assert sum(SPLITS.values()) == 100


def test_contexts_frames_and_ops_are_those_of_the_slices(mixture):
    source = ExerciseSource(mixture, "pretrain", 2)
    seen = {(source.at(index).op, source.at(index).context, source.at(index).frames) for index in range(30)}
    assert seen == {(3, "zoo", "english"), (5, "school", "terse")}


def test_style_reaches_the_exercise():
    piece = Slice(ProblemSpec(op=4), style=Style(trace_order="goal_directed"))
    assert ExerciseSource(Mixture((piece,)), "test", 0).at(0).style == piece.style


def test_an_unknown_split_is_refused(mixture):
    with pytest.raises(MixtureError, match="split='train': give one of pretrain, midtrain"):
        ExerciseSource(mixture, "train", 0)


def test_an_unknown_context_is_refused_before_any_exercise(mixture):
    slices = (replace(mixture.slices[0], context="moon"), mixture.slices[1])
    with pytest.raises(TemplateError, match="'moon'"):
        ExerciseSource(Mixture(slices), "test", 0)


def test_a_problem_space_too_small_to_share_out_is_refused():
    """There is one problem here, and validation owns 5 % of the identities: it is another split's."""
    spec = ProblemSpec(op=1, distractors=(0, 0), constants=(1, 1))
    mixture = Mixture((Slice(spec),))
    with pytest.raises(SpecError, match="none belonged to the split 'validation': there are too few"):
        ExerciseSource(mixture, "validation", 0).at(0)


def test_check_finds_the_slice_that_cannot_be_met_without_drawing_the_mixture():
    hopeless = ProblemSpec(op=1, distractors=(0, 0), constants=(1, 1))
    mixture = Mixture((Slice(ProblemSpec(op=4), weight=1 - 1e-9), Slice(hopeless, weight=1e-9)))
    source = ExerciseSource(mixture, "validation", 0)
    assert source.at(0).op == 4
    with pytest.raises(SpecError, match="none belonged to the split"):
        source.check()


def test_settings_tell_sources_apart(mixture, tokenizer):
    sources = [
        ExerciseSource(mixture, "test", 0),
        ExerciseSource(mixture, "test", 1),
        ExerciseSource(mixture, "rl", 0),
        ExerciseSource(mixture, "test", 0, tokenizer),
        ExerciseSource(Mixture(mixture.slices[::-1]), "test", 0),
    ]
    settings = [source.settings() for source in sources]
    assert all(settings[a] != settings[b] for a in range(5) for b in range(a))
    assert settings[0] == ExerciseSource(mixture, "test", 0).settings()
