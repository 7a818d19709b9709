"""Laws of the closed vocabulary: nothing lost, nothing unknown, the same ids in transformers."""

import itertools
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as WordTokenizer

import gsm_lab
from gsm_lab.data import Tokenizer
from gsm_lab.data.tokenizer import LONGEST_REMEMBERED
from gsm_lab.errors import DataError, TokenError
from gsm_lab.problems import (
    Exercise,
    ProblemSpec,
    Style,
    Verdict,
    draw_problem,
    grade,
    known_frames,
    load_template,
    render,
)
from gsm_lab.seeds import stream

OPERATIONS = ("add", "subtract", "multiply", "divide")
STYLES = (
    Style(),
    Style(trace_order="goal_directed", rules=True),
    Style(form="think", checks=0.5, recovery=0.5, rules=True),
    Style(form="answer_only", sentence_order="reversed"),
    Style(trace_order="random", checks=1.0, recovery=1.0),
)
SPECS = (
    ProblemSpec(op=1),
    ProblemSpec(op=9, modulus=97, implicit_totals=1.0),
    ProblemSpec(op=60, width=5, values=(0, 10**9), implicit_totals=1.0, nested_totals=0.5),
    ProblemSpec(op=12, operations=OPERATIONS, implicit_totals=0.5, nested_totals=0.5, width=(0, 4)),
    ProblemSpec(op=12, operations=OPERATIONS, implicit_totals=0.5, nested_totals=0.5, width=(0, 4), mode="reverse"),
)
TERSE = Tokenizer.for_templates([load_template("zoo", "terse").limited(10, 10)])
CHINESE = Tokenizer.for_templates([load_template("zoo", frames).limited(3, 3) for frames in ("chinese", "english")])


def some_exercises(templates, number):
    for index in range(number):
        for template, spec, style in itertools.product(templates, SPECS, STYLES):
            problem = draw_problem(spec, stream(1, "problem", index, SPECS.index(spec)))
            yield render(problem, template, stream(1, "words", template.context, index), style)


def test_every_rendering_of_every_template_survives_the_round_trip(tokenizer, templates):
    for exercise in some_exercises(templates, 2):
        text = exercise.prompt + exercise.completion
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ids_of_prompt_and_completion_are_the_ids_of_the_whole(tokenizer, templates):
    """Chinese completions begin without a space, or as all do with one before a tag."""
    beginnings = set()
    for exercise in some_exercises(templates, 2):
        parts = tokenizer.encode(exercise.prompt) + tokenizer.encode(exercise.completion)
        assert parts == tokenizer.encode(exercise.prompt + exercise.completion)
        beginnings.add((exercise.frames == "chinese", exercise.completion[0] == " "))
    assert beginnings == {(False, True), (True, True), (True, False)}


def test_ids_are_those_that_the_library_gives_for_every_frames_and_style(tokenizer, templates):
    for exercise in some_exercises([one for one in templates if one.context == "zoo"], 2):
        for text in (exercise.prompt, exercise.completion):
            assert tokenizer.encode(text) == tokenizer._tokenizer.encode(text, add_special_tokens=False).ids


def test_each_template_alone_gives_a_tokenizer_that_reads_all_its_renderings(templates):
    """What `Template.pieces` forgets, another template of a common tokenizer may hide."""
    for template in templates:
        alone = Tokenizer.for_templates([template])
        for exercise in some_exercises([template], 2):
            assert alone.decode(alone.encode(exercise.prompt)) == exercise.prompt
            assert alone.decode(alone.encode(exercise.completion)) == exercise.completion


@pytest.mark.parametrize("frames", known_frames())
def test_a_template_with_all_its_places_gives_a_tokenizer_that_reads_them(frames):
    template = load_template("zoo", frames)
    tokenizer = Tokenizer.for_templates([template])
    spec = ProblemSpec(op=3, distractors=600)
    exercise = render(draw_problem(spec, stream(1)), template.limited(spec.num_places, spec.items), stream(2))
    assert tokenizer.decode(tokenizer.encode(exercise.prompt)) == exercise.prompt


def test_every_chinese_character_is_a_token_of_its_own_and_carries_no_space():
    ids = CHINESE.encode("珊瑚角k = 3 + 珊12。 lions")
    words = ["珊", "瑚", "角", "k", " =", " 3", " +", " ", "珊", "1", "2", "。", " lions"]
    assert [CHINESE.tokens[token_id] for token_id in ids] == words
    assert all(len(token) == 1 for token in CHINESE.tokens if any("\u4e00" <= one <= "\u9fff" for one in token))


def test_long_pieces_are_not_remembered_and_short_ones_are():
    tokenizer = Tokenizer.for_templates([load_template("zoo", "chinese").limited(3, 3)])
    name = "珊瑚角水族馆"
    assert tokenizer.encode(name * 20) == tokenizer.encode(name) * 20
    assert tokenizer.encode("a" + "1" * 50) == tokenizer.encode("a1") + tokenizer.encode("1") * 49
    assert tokenizer.encode(" a" + "1" * 50) == tokenizer.encode(" a1") + tokenizer.encode("1") * 49
    assert max(map(len, [*tokenizer._runs, *tokenizer._after_space])) <= LONGEST_REMEMBERED
    assert name in tokenizer._runs


def test_grade_of_decoded_gold_is_that_of_the_text_with_pads_and_end_around_it(tokenizer, templates):
    """Law D22: no word of the grammar is a special token that decoding would drop."""
    for exercise in some_exercises([one for one in templates if one.context == "zoo"], 1):
        ids = [tokenizer.pad_id, *tokenizer.encode(exercise.completion), tokenizer.eos_id, tokenizer.pad_id]
        assert grade(exercise, tokenizer.decode(ids)) == grade(exercise, exercise.completion)
        assert grade(exercise, tokenizer.decode(ids)).verdict is Verdict.CORRECT


def test_only_pads_and_ends_are_silent(tokenizer):
    silent = [token_id for token_id in range(tokenizer.vocab_size) if not tokenizer.decode([token_id])]
    assert silent == [tokenizer.pad_id, tokenizer.eos_id]
    assert tokenizer.decode([tokenizer.vocab_size]) == "<unk>"


def test_digits_are_one_token_each_and_words_carry_their_space(tokenizer):
    ids = tokenizer.encode(" equals 137.")
    assert [tokenizer.tokens[token_id] for token_id in ids] == [" equals", " 1", "3", "7", "."]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The number of dragons equals 3.", "' dragons'"),
        ("dragons and gryphons", "'dragons'"),
        ("The number of\nThe", r"'\\n'"),
        (" equals\t3", r"'\\t'"),
        ("\u0663", "'\u0663'"),
        ("\u9f98", "'\u9f98'"),
        ("\u767d\u9f98", "'\u9f98'"),
        ("\u00bd", "'\u00bd'"),
    ],
)
def test_an_unknown_word_is_named(tokenizer, text, named):
    with pytest.raises(TokenError, match=f"^{named} is not among the .* words .*for_templates"):
        tokenizer.encode(text)


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(TokenError, match="not valid Unicode"):
        tokenizer.encode(" equals \ud800")


def test_near_miss_a_word_of_another_template_is_unknown():
    zoo = Tokenizer.for_templates([load_template("zoo", "terse")])
    school = load_template("school", "terse")
    exercise = render(draw_problem(ProblemSpec(op=4), stream(1)), school, stream(2))
    with pytest.raises(TokenError, match="is not among"):
        zoo.encode(exercise.prompt)


def test_special_tokens_in_a_text_are_not_special(tokenizer):
    with pytest.raises(TokenError, match=r"^'(<|eos)' is not among"):
        tokenizer.encode("<eos>")


def texts_like(tokenizer):
    odd = [" ", "  ", "\n", "dragon", " dragon", "é", "\u0663", "\u9f98", "\u3007", " \u3005", "\u2e80", "\U00020000"]
    words = st.lists(st.sampled_from([*tokenizer.tokens, *odd]), max_size=12)
    return st.one_of(words.map("".join), st.text(max_size=40))


def check_against_the_library(tokenizer, text):
    oracle = tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
    if tokenizer.tokens.index("<unk>") in oracle:
        with pytest.raises(TokenError, match="is not among"):
            tokenizer.encode(text)
    else:
        assert tokenizer.encode(text) == oracle == np.frombuffer(tokenizer.encode_bytes(text), np.int32).tolist()
        assert tokenizer.decode(oracle) == text


@given(texts_like(TERSE))
def test_remembered_pieces_give_what_the_tokenizers_library_gives(text):
    check_against_the_library(TERSE, text)


@given(texts_like(CHINESE))
def test_remembered_pieces_give_what_the_tokenizers_library_gives_in_chinese(text):
    check_against_the_library(CHINESE, text)


def test_vocabulary_is_filled_up_to_a_multiple_of_64_with_tokens_no_text_gives(tokenizer):
    assert tokenizer.vocab_size % 64 == 0
    assert len(tokenizer) <= tokenizer.vocab_size < len(tokenizer) + 64
    assert len(set(tokenizer.tokens)) == tokenizer.vocab_size
    assert all(token.startswith("<unused_") for token in tokenizer.tokens[len(tokenizer) :])


def test_order_of_templates_does_not_matter_but_templates_do(templates, tokenizer):
    assert Tokenizer.for_templates(templates[::-1]) == tokenizer
    assert Tokenizer.for_templates(templates[::-1]).fingerprint == tokenizer.fingerprint
    without_one_context = [one for one in templates if one.context != templates[0].context]
    assert Tokenizer.for_templates(without_one_context).fingerprint != tokenizer.fingerprint


def test_a_word_listed_twice_is_refused():
    with pytest.raises(TokenError, match="' apples' twice"):
        Tokenizer([" apples", " pears", " apples"])


def test_a_special_token_is_no_word():
    with pytest.raises(TokenError, match="'<eos>' twice"):
        Tokenizer([" apples", "<eos>"])


@pytest.mark.parametrize("word", ["two words", "12", "apples.", "白白", " 白", ""])
def test_a_word_that_is_not_one_token_is_refused(word):
    with pytest.raises(TokenError, match=f"^{word!r} is not one token"):
        Tokenizer([" apples", word])


def test_saved_and_loaded_or_pickled_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    for copy in (Tokenizer.load(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert copy == tokenizer
        assert copy.tokens == tokenizer.tokens
        assert copy.fingerprint == tokenizer.fingerprint


def test_saving_twice_gives_the_same_bytes(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "one")
    Tokenizer.load(tmp_path / "one").save(tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*tokenizer.json: give the folder"):
        Tokenizer.load(tmp_path)


def test_a_truncated_tokenizer_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text()[:-100])
    with pytest.raises(DataError, match="damaged or foreign"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_that_splits_otherwise_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["pre_tokenizer"] = {"type": "Whitespace"}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="does not describe a tokenizer of gsm_lab"):
        Tokenizer.load(tmp_path)


def test_the_library_reads_the_saved_file_as_we_do(tokenizer, templates, tmp_path):
    tokenizer.save(tmp_path)
    library = WordTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for exercise in some_exercises(templates, 1):
        assert library.encode(exercise.prompt).ids == tokenizer.encode(exercise.prompt)


QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}


@pytest.mark.parametrize("beside_a_model", [False, True])
def test_transformers_reads_the_folder_offline_and_gives_the_same_ids(tokenizer, templates, tmp_path, beside_a_model):
    """Beside a Qwen2 model, transformers 5 would use Qwen2's splitting if the folder did not forbid it."""
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    if beside_a_model:
        (tmp_path / "config.json").write_text(json.dumps(QWEN2 | {"vocab_size": tokenizer.vocab_size}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert len(theirs) == tokenizer.vocab_size
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.bos_token_id) == (tokenizer.pad_id, tokenizer.eos_id, None)
    for exercise in some_exercises([one for one in templates if one.context == "zoo"], 1):
        text = exercise.prompt + exercise.completion
        ids = tokenizer.encode(text)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode([*ids, tokenizer.eos_id], skip_special_tokens=True) == text
        message = [{"role": "user", "content": exercise.prompt}]
        chat = theirs.apply_chat_template(message, add_generation_prompt=True, return_dict=True)
        assert chat["input_ids"] == tokenizer.encode(exercise.prompt)


def test_near_miss_without_our_class_transformers_splits_as_qwen2_does(tokenizer, tmp_path):
    """If this fails, transformers has mended it, and `auto_map` can go."""
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(QWEN2))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["auto_map"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert theirs(" equals 13.")["input_ids"] != tokenizer.encode(" equals 13.")


TRUSTING = """
import sys
from transformers import AutoTokenizer
print(AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)(" equals 13.")["input_ids"])
"""


def test_transformers_that_trusts_the_folder_gives_the_same_ids(tokenizer, tmp_path):
    """In a process of its own: transformers copies the class to a cache that is named when it is imported."""
    pytest.importorskip("transformers")
    tokenizer.save(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "config.json").write_text(json.dumps(QWEN2))
    environment = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    command = [sys.executable, "-c", TRUSTING, str(tmp_path / "tokenizer")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout) == tokenizer.encode(" equals 13.")


def test_neither_torch_nor_transformers_is_imported_for_data():
    source = Path(gsm_lab.__file__).parents[1]
    code = "import sys, gsm_lab.data; print(sorted({'torch', 'transformers', 'pandas'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=source, check=True)
    assert done.stdout.strip() == "[]"


def test_exercises_here_cover_every_template_style_and_spec(templates):
    """The laws above would say little if their exercises were few or alike."""
    exercises: list[Exercise] = list(some_exercises(templates, 1))
    assert len(exercises) == len(templates) * len(SPECS) * len(STYLES)
    assert {exercise.style for exercise in exercises} == set(STYLES)
