"""Laws of sources: exercise `index` is always the same, and splits share no problem."""

import pickle
from collections import Counter
from dataclasses import replace

import pytest

from gsm_lab.data import SPLITS, ExerciseSource, HeldOut, Mixture, Slice, Tokenizer, split_of
from gsm_lab.errors import MixtureError, SpecError, TemplateError
from gsm_lab.problems import (
    LEVELS,
    ProblemSpec,
    Style,
    draw_problem,
    identities,
    load_template,
    problem_id,
    read_problem,
    render,
)
from gsm_lab.seeds import stream


def test_an_exercise_is_a_pure_function_of_source_and_index(mixture):
    one, other = ExerciseSource(mixture, "rl", 5), ExerciseSource(mixture, "rl", 5)
    forwards = [one.at(index) for index in range(30)]
    backwards = [other.at(index) for index in reversed(range(30))]
    assert forwards == backwards[::-1]
    assert pickle.loads(pickle.dumps(one)).at(7) == one.at(7)


def ids_of(source, number, level="problem_id"):
    return {getattr(source.at(index).identities, level) for index in range(number)}


def test_adjacent_seeds_share_no_problem_where_there_are_many():
    """Of two times 1,000 problems of op 10, chance lets none coincide."""
    mixture = Mixture((Slice(ProblemSpec(op=10)),))
    seeds = [ids_of(ExerciseSource(mixture, "pretrain", seed), 1000) for seed in (41, 42, 43)]
    assert len(set.union(*seeds)) == 3000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_exercises_of_adjacent_seeds_coincide_by_chance_alone():
    """Two of one seed coincide about once in 5e7 pairs at op 10, for short problems are few; two of two seeds as often.

    Among n of one seed there are n (n - 1) / 2 pairs, between two seeds n^2.
    """
    mixture = Mixture((Slice(ProblemSpec(op=10)),))
    one, other = (
        Counter(source.at(index).problem_id for index in range(100_000))
        for source in (ExerciseSource(mixture, "pretrain", seed) for seed in (41, 42))
    )
    within = sum(count * (count - 1) // 2 for ids in (one, other) for count in ids.values())
    between = sum(count * other[identity] for identity, count in one.items())
    assert 0 < within < 400
    assert abs(between - within) < 4 * (between + within) ** 0.5


@pytest.mark.parametrize("shift", [0, 1, -1])
def test_exercises_of_adjacent_seeds_coincide_by_chance_alone_where_there_are_few(shift):
    """One number, beside or shifted, coincides as often as any two numbers of two seeds do: here once in 27 or so."""
    mixture = Mixture((Slice(ProblemSpec(op=1, distractors=(0, 0), constants=(1, 99)), frames="terse"),))
    number = 2000
    one, other = (
        [ExerciseSource(mixture, "pretrain", seed).at(i).problem_id for i in range(number)] for seed in (1, 2)
    )
    counts, other_counts = Counter(one), Counter(other)
    chance = sum(count * other_counts[identity] for identity, count in counts.items()) / number**2
    shifted = sum(one[i] == other[(i + shift) % number] for i in range(number)) / number
    assert 0.01 < chance < 0.1
    assert abs(shifted - chance) < 4 * (chance / number) ** 0.5


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
        (0.599, "pretrain"),
        (0.601, "midtrain"),
        (0.719, "midtrain"),
        (0.721, "rl"),
        (0.841, "validation"),
        (0.879, "validation"),
        (0.881, "test"),
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
    with pytest.raises(SpecError, match="none belonged to the split 'validation' by problem_id: there are too few"):
        ExerciseSource(mixture, "validation", 0).at(0)


def test_check_finds_the_slice_that_cannot_be_met_without_drawing_the_mixture():
    hopeless = ProblemSpec(op=1, distractors=(0, 0), constants=(1, 1))
    mixture = Mixture((Slice(ProblemSpec(op=4), weight=1 - 1e-9), Slice(hopeless, weight=1e-9)))
    source = ExerciseSource(mixture, "validation", 0)
    assert source.at(0).op == 4
    with pytest.raises(SpecError, match="none belonged to the split"):
        source.check()


def test_a_draw_counts_the_problems_of_other_splits_that_it_threw_away(mixture):
    """A split that owns a share s needs 1 / s draws: 2.5 for pretraining's 40 %, 20 for validation's 5 %."""
    means = {}
    for split in SPLITS:
        source = ExerciseSource(mixture, split, 0)
        drawn = [source.draw(index) for index in range(300)]
        assert [one.exercise for one in drawn[:20]] == [source.at(index) for index in range(20)]
        assert [one.slice for one in drawn] == [source.slice_of(index) for index in range(300)]
        assert all(1 <= one.problems <= one.skeletons <= one.numbers for one in drawn)
        means[split] = sum(one.problems for one in drawn) / 300
        mean = 100 / SPLITS[split]
        sigma = mean / 300**0.5  # a geometric waiting time varies about as much as its mean
        assert abs(means[split] - mean) < 4 * sigma, split


def test_the_identity_of_a_drawn_exercise_is_that_of_its_problem(mixture):
    exercise = ExerciseSource(mixture, "test", 3).at(0)
    assert exercise.identities == identities(exercise.problem)


@pytest.mark.parametrize("level", LEVELS)
def test_splits_by_a_level_share_nothing_at_that_level_or_a_finer_one(level):
    mixture = Mixture((Slice(ProblemSpec(op=7), frames="terse"),))
    sources = [ExerciseSource(mixture, split, 1, split_by=level) for split in ("pretrain", "rl", "test")]
    for finer in LEVELS[LEVELS.index(level) :]:
        own = [ids_of(source, 150, finer) for source in sources]
        assert sum(map(len, own)) == len(set.union(*own))


def test_near_miss_splits_by_problem_share_structures():
    mixture = Mixture((Slice(ProblemSpec(op=4), frames="terse"),))
    train, test = (ids_of(ExerciseSource(mixture, split, 1), 150, "structure_id") for split in ("pretrain", "test"))
    assert train & test


def test_held_out_structures_are_given_in_their_split_alone():
    mixture = Mixture((Slice(ProblemSpec(op=3), frames="terse"),))
    plain = {split: ExerciseSource(mixture, split, 1) for split in ("pretrain", "test")}
    structures = ids_of(plain["pretrain"], 100, "structure_id")
    held_out = HeldOut((sorted(structures)[0],), "test")
    assert held_out.known <= structures  # near miss: without the setting, training has it
    kept = {split: ids_of(replace(source, held_out=held_out), 200, "structure_id") for split, source in plain.items()}
    assert not held_out.known & kept["pretrain"]
    assert held_out.known <= kept["test"]
    source = replace(plain["test"], held_out=held_out)
    owners = {split_of(one.problem_id) for one in map(source.at, range(200)) if one.identities[0] in held_out.known}
    assert owners > {"test"}  # whichever split would own them otherwise


def test_a_held_out_structure_that_is_none_is_refused():
    with pytest.raises(MixtureError, match="structures hold 'abc': give structure ids, 32 hexadecimal digits"):
        HeldOut(("abc",))


def test_an_unknown_held_out_split_is_refused():
    with pytest.raises(MixtureError, match="split='exam': give one of pretrain"):
        HeldOut((), "exam")


def test_an_unknown_level_is_refused(mixture):
    with pytest.raises(MixtureError, match="split_by='op': give one of structure_id, numbers_id, problem_id"):
        ExerciseSource(mixture, "test", 0, split_by="op")


def nouns_of(source, number):
    """Short names that solutions use, as (items, places)."""
    names = {name for index in range(number) for name in source.at(index).names if not name.startswith("total")}
    items, places = zip(*(name.split(" in ") if " in " in name else name.split(" at ") for name in names), strict=True)
    return set(items), set(places)


def test_slices_from_other_places_and_items_share_no_nouns():
    """Exercises of the first five places and items, and of the last five: together all ten, in common none."""
    spec = ProblemSpec(op=6, places=5, items=5, implicit_totals=0.0)
    train, test = (
        ExerciseSource(Mixture((Slice(spec, places_from=begin, items_from=begin),)), "pretrain", 0) for begin in (0, 5)
    )
    (items, places), (other_items, other_places) = nouns_of(train, 100), nouns_of(test, 100)
    assert not items & other_items
    assert not places & other_places
    assert len(items) == len(other_items) == len(places) == len(other_places) == 5
    template = test.templates[0]
    for exercise in map(test.at, range(20)):
        assert problem_id(read_problem(exercise.prompt, template)) == exercise.problem_id


def test_too_few_nouns_from_there_on_are_refused():
    piece = Slice(ProblemSpec(op=4, items=6), items_from=5)
    with pytest.raises(MixtureError, match="items_from=5 and 6 items in the spec contradict each other: 'zoo' has 10"):
        ExerciseSource(Mixture((piece,)), "test", 0)


def test_frames_without_nouns_cannot_hold_nouns_out():
    piece = Slice(ProblemSpec(op=4, places=5), frames="symbolic", places_from=5)
    with pytest.raises(MixtureError, match="places_from=5 and frames='symbolic' contradict each other"):
        ExerciseSource(Mixture((piece,)), "test", 0)


def test_a_slice_with_a_length_gives_texts_of_that_length_in_its_split():
    tokenizer = Tokenizer.for_templates([load_template("zoo", "english")])  # with all places, for distractors
    piece = Slice(ProblemSpec(op=4), tokens=1500)
    source = ExerciseSource(Mixture((piece,), "tokens"), "pretrain", 0, tokenizer)
    for exercise in map(source.at, range(4)):
        assert 0.98 * 1500 <= len(tokenizer.encode(exercise.prompt + exercise.completion)) <= 1500
        assert split_of(exercise.problem_id) == "pretrain"
        assert exercise.op == 4


def test_a_length_in_tokens_needs_a_tokenizer():
    with pytest.raises(MixtureError, match="a length in tokens and there is no tokenizer: give one"):
        ExerciseSource(Mixture((Slice(ProblemSpec(op=4), tokens=1000),)), "test", 0)


def test_settings_tell_sources_apart(mixture, tokenizer):
    sources = [
        ExerciseSource(mixture, "test", 0),
        ExerciseSource(mixture, "test", 1),
        ExerciseSource(mixture, "rl", 0),
        ExerciseSource(mixture, "test", 0, tokenizer),
        ExerciseSource(Mixture(mixture.slices[::-1]), "test", 0),
        ExerciseSource(mixture, "test", 0, split_by="numbers_id"),
        ExerciseSource(mixture, "test", 0, held_out=HeldOut(("0" * 32,))),
    ]
    settings = [source.settings() for source in sources]
    assert all(settings[a] != settings[b] for a in range(len(sources)) for b in range(a))
    assert settings[0] == ExerciseSource(mixture, "test", 0).settings()


def test_blocks_leave_no_cycles_behind_and_the_collector_as_it_was():
    """They are drawn without the collector; a cycle in every exercise would fill the memory."""
    import gc

    from gsm_lab.data import DrawnDocuments, Mixture, Slice, Tokenizer
    from gsm_lab.problems import ProblemSpec, load_template

    source = ExerciseSource(Mixture((Slice(ProblemSpec(op=6, mode="reverse")),)), "pretrain", 0)
    documents = DrawnDocuments(source, Tokenizer.for_templates([load_template()]))
    documents.block(0, 20)
    for is_on in (True, False):
        (gc.enable if is_on else gc.disable)()
        try:
            gc.collect()
            documents.block(20, 120)
            assert gc.isenabled() is is_on
            assert gc.collect() == 0
        finally:
            gc.enable()
