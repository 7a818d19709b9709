"""Gold is correct, every class of wrong step is caught, and rewards are what their names say."""

import dataclasses
import itertools
import random
import re

import pytest

from gsm_lab.problems import (
    MUTATIONS,
    DependencyGraph,
    Exercise,
    Node,
    Operation,
    Problem,
    Quantity,
    Style,
    Verdict,
    examine,
    grade,
    known_frames,
    load_template,
    mutate,
    render,
    rewards,
)
from gsm_lab.problems.algebra import regroups
from gsm_lab.problems.chains import computed_as_written
from gsm_lab.problems.equations import mark_unknown
from gsm_lab.problems.marks import FORM, Marks, Meaning, bind, quantity_names
from gsm_lab.problems.phrase import single_spaced
from gsm_lab.problems.reading import _understood, read_freely
from gsm_lab.problems.statements import Binary, Given, Malformed, Solve, Step, Unknown
from gsm_lab.problems.verdicts import ERRORS
from gsm_lab.problems.wording import LAYOUT, PRODUCTS, WORDING, How, how_of

ONE_MODE = {"carried_slip": {"forward"}, "wrong_equation": {"reverse"}, "wrong_solving": {"reverse"}}
ONE_MODE |= {"exchanged_constants": {"forward"}}
ONE_MODE |= {kind: {"reverse"} for kind in ("no_equation", "wrong_given", "wrong_left_side", "wrong_form")}
"""Mutations that only one mode has a place for."""
LIONS, OTTERS, OWLS = Quantity(0, 0), Quantity(0, 1), Quantity(1, 0)
FRUIT = Problem(
    DependencyGraph(
        (
            Node(LIONS, Operation.CONSTANT, 3),
            Node(OTTERS, Operation.PLUS, 2, (0,)),
            Node(OWLS, Operation.DIFFERENCE, None, (1, 0), 1),
        )
    ),
    2,
)


@pytest.fixture
def owls() -> Exercise:
    """a = 3, b = 2 + a = 5, and asked c = b - a = 2; names are put in by `say`."""
    return render(FRUIT, load_template("zoo", "terse"), random.Random(0))


def say(exercise: Exercise, text: str) -> str:
    """A text in which a, b, c stand for the exercise's names."""
    lookup = dict(zip("abc", exercise.names, strict=True))
    return " ".join(lookup.get(word, word) for word in text.split())


def summed(operation: Operation, constant: int, modulus: int | None = None, frames: str = "terse") -> Exercise:
    """a = 3, b = 6, and asked c = constant, operation, a + b."""
    nodes = (
        Node(LIONS, Operation.CONSTANT, 3),
        Node(OTTERS, Operation.CONSTANT, 6),
        Node(OWLS, operation, constant, (0, 1)),
    )
    return render(Problem(DependencyGraph(nodes), 2, modulus), load_template("zoo", frames), random.Random(0))


SUM, PRODUCT, REMAINDER = summed(Operation.PLUS, 2), summed(Operation.TIMES, 2), summed(Operation.TIMES, 2, 7)


def test_gold_is_correct_without_deviation(exercises):
    for exercise, _ in exercises:
        result = grade(exercise, exercise.completion)
        assert result.verified
        assert result.process_accuracy == 1
        assert result.deviation == ()
        assert result.first_error is None


@pytest.mark.parametrize("kind", MUTATIONS)
def test_law_3_every_class_of_wrong_step_is_caught(kind: str, exercises):
    rng = random.Random(kind)
    seen = [(exercise, mutated) for exercise, _ in exercises if (mutated := mutate(exercise, kind, rng)) is not None]
    assert len(seen) > 60
    for exercise, mutated in seen:
        assert mutated != exercise.completion
        assert not grade(exercise, mutated).verified, mutated
    assert {exercise.frames for exercise, _ in seen} == set(known_frames())
    modes = {exercise.problem.mode for exercise, _ in seen}
    assert modes == ONE_MODE.get(kind, {"forward", "reverse"})


def in_brackets(step: str) -> str:
    """A step with its last link, or the number that is all its chain, in brackets: no deviation, but not as written."""
    head, sign, last = step.rpartition("=")
    if not sign:
        head, sign, last = step.rpartition(" ")
    return f"{head}{sign} ( {last.strip()} )"


def test_a_step_known_at_sight_is_judged_as_all_rules_judge_it(exercises):
    """Brackets hide what could be known at sight; marks of layout and small letters do not."""
    rng = random.Random(7)
    kinds = sorted(MUTATIONS)
    changes = (str, "- {}".format, lambda step: step.replace("Define", "define"))
    overlooked = {FORM, LAYOUT, WORDING}
    num_compared = 0
    for exercise, _ in exercises:
        for text in (
            exercise.completion,
            mutate(exercise, rng.choice(kinds), rng),
            mutate(exercise, "wrong_value", rng),
        ):
            pieces = read_freely(text or "", exercise.grammar)
            if exercise.style.form != "steps" or not pieces:
                continue

            def changed(change, text=text, pieces=pieces):
                told, at = "", 0
                for piece in pieces:
                    if isinstance(piece.statement, Step):
                        told += text[at : piece.start] + change(text[piece.start : piece.end])
                        at = piece.end
                return told + text[at:]

            judged = examine(exercise, changed(in_brackets))
            for change in changes:
                seen = examine(exercise, changed(change))
                assert seen.grade.findings == judged.grade.findings
                assert seen.grade.process_accuracy == judged.grade.process_accuracy
                assert [mark.gain for mark in seen.marks] == [mark.gain for mark in judged.marks]
                assert set(seen.grade.deviation) - overlooked == set(judged.grade.deviation) - overlooked
                num_compared += 1
    assert num_compared > 3 * len(exercises)


def test_right_steps_are_known_at_sight(exercises):
    """As the grammar writes them, and with small letters; without this all would be as right, in more time."""
    num_known = 0
    for exercise, _ in exercises:
        names = quantity_names(exercise.names)
        for text in (exercise.completion, exercise.completion.replace("Define", "define").replace("Let", "let")):
            marks = Marks(exercise, names, {}, frozenset(), frozenset(exercise.needed_names))
            for piece in read_freely(text, exercise.grammar, exercise.style.form) or []:
                statement = piece.statement
                if isinstance(statement, Unknown):
                    mark_unknown(statement, marks)
                elif isinstance(statement, Step):
                    name = computed_as_written(statement, piece.text, marks)
                    assert name is not None, piece.text
                    marks.defined.add(name)
                    bind(statement.variable, Meaning(name, name), marks)
                    num_known += 1
    assert num_known > 3 * len(exercises)


LAST_LINKS = (
    *("k = 3 + 4 = 7", "k = 3 + 4 = 7 goats", "k = 3 + 4 = 7. Define", "k = 2(3 + 4) = 14", "k = 3 = 1,000"),
    *("k = 3 = 5.0", "k = 3 + 4 = 7,", "k = 3 + 4 = 7:", "k = 3 + 4 = 7,;", "k = 3 = ,", "k = 3 + ,", "k = 3 = ("),
    *("k = = 3", "k =", "7"),
)


@pytest.mark.parametrize("frames", ["english", "terse", "paraphrase", "chinese", "ours"])
def test_what_is_not_tried_would_not_have_been_read(frames):
    """Patterns are left out where a chain's last link, or a word that they need, forbids them: only time is saved."""
    grammar = load_template("zoo", "english" if frames == "ours" else frames).grammar
    if frames == "ours":
        grammar = dataclasses.replace(
            grammar,
            step="Now {n} is {v}, for {v} = {chain}",
            solve="It follows: {equation}",
            unknown="Nobody knows {n} ({v}), alas",
            retract="No, scrap it",
        )
    units = frozenset({"goats"})
    how = how_of(grammar, units)
    slow = How(grammar, units, tuple((kind, pattern, False, "") for kind, pattern, _, _ in how.patterns))
    heads = (
        "",
        "Define goats at B as k; so ",
        "define goats as k, then ",
        "goats ",
        "Hence ",
        "it follows: ",
        "so ",
        "- ",
    )
    texts = [head + chain for head in heads for chain in LAST_LINKS]
    texts += [grammar.step.format(n="Goats", v="k", chain=chain) for chain in LAST_LINKS]
    texts += [grammar.solve.format(equation=chain).lower() for chain in LAST_LINKS]
    texts += ["No, scrap it", "NO, SCRAP IT", "no, scrap \u0131t", "Wait, that is not right", "that is not r\u0131ght"]
    texts += [
        "nobody knows goats (k), alas",
        "Define goats as k; its value is not known yet",
        "goats ?",
        "undo",
        "UNDO.",
    ]
    found = [_understood(text, how) for text in texts]
    assert found == [_understood(text, slow) for text in texts]
    kinds = {type(statement) for statement, _, _ in found}
    assert Malformed in kinds
    assert {Step, Solve} & kinds


LONGEST_FIRST, TO_A_SPACE = "(?P<n>[^=<>:;?]{1,200})", r"(?P<n>[^=<>:;?][^=<>:;?\s]{0,199}+)"
SHORTEST_FIRST = "(?P<n>[^=<>:;?]{1,200}?)"
OWN_STEPS = (
    "Now {n} is {v}, for {v} = {chain}",
    "{n}{v}; {chain}",
    "{n} as {v}as = {chain}",
    "{n} {v} {chain}",
    "{n} : {chain}",
)
BITS = (
    "k",
    "x1",
    "as",
    "is",
    "for",
    "=",
    ";",
    ":",
    ",",
    "2",
    "+",
    "otters",
    "<",
    "?",
    "\u4e3a",
    "\u5219",
    "Now",
    "let",
)


@pytest.mark.parametrize("step", [*known_frames(), *OWN_STEPS])
def test_names_end_where_a_patient_reader_ends_them(step):
    """Some names are looked for from the other end, or up to a space: only time is saved."""
    is_known = step in known_frames()
    grammar = load_template("zoo", step if is_known else "english").grammar
    if not is_known:
        grammar = dataclasses.replace(grammar, step=step)
    rng = random.Random(step)
    readers = [
        one for one in grammar.readers if LONGEST_FIRST in one.pattern.pattern or TO_A_SPACE in one.pattern.pattern
    ]
    patient = []
    for reader in readers:
        pattern = reader.pattern.pattern.replace(LONGEST_FIRST, SHORTEST_FIRST).replace(TO_A_SPACE, SHORTEST_FIRST)
        patient.append(re.compile(pattern, reader.pattern.flags))
    num_read = 0
    for _ in range(3000):
        name, chain = (" ".join(rng.choices(BITS, k=rng.randint(1, 4))) for _ in range(2))
        text = getattr(grammar, rng.choice(("step", "plan", "unknown", "given")))
        for slot in ("{expression}", "{equation}"):
            text = text.replace(slot, "{chain}")
        text = text.format(n=name, v=rng.choice(BITS[:5]), chain=chain, value=7)
        if rng.random() < 0.5:
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice(("", " ", *BITS)) + text[at + rng.randint(0, 2) :]
        text = " ".join(text.split()).removesuffix(grammar.statement_end).rstrip()
        for reader, slow in zip(readers, patient, strict=True):
            found, wanted = reader.pattern.fullmatch(text), slow.fullmatch(text)
            assert (found and found.groupdict()) == (wanted and wanted.groupdict()), text
            num_read += found is not None
    assert bool(readers) == (num_read > 100)


def test_a_name_and_what_follows_are_set_apart():
    grammar = load_template("zoo", "paraphrase").grammar
    how = how_of(grammar, frozenset())
    wanted = Step("pied owls", "V", ("k", 7))
    for between in (": ", " ", ", ", " : ", ":", ",", "; "):
        assert _understood(f"let V stand for pied owls{between}V = k = 7", how)[0] == wanted
    assert _understood('let V stand for "pied owls"V = k = 7', how)[0] == Step('"pied owls"', "V", ("k", 7))
    assert isinstance(_understood("let V stand for pied owlsV = k = 7", how)[0], Malformed)
    for between in (": ", ", ", " ", ":"):
        given = _understood(f"the text reports 14 for Y1{between}W + 1 = 14", how)[0]
        assert given == Given("Y1", 14, (Binary("+", "W", 1), 14))


@pytest.mark.parametrize("frames", ["english", "paraphrase"])
def test_a_false_plan_that_runs_into_its_name_is_no_word_beside_the_steps(frames):
    exercise = summed(Operation.TIMES, 2, frames=frames)
    plan = exercise.grammar.plan.format(n=exercise.names[0], expression=exercise.names[1]).replace(", ", "")
    assert grade(exercise, exercise.completion).verdict is Verdict.CORRECT
    assert grade(exercise, f" {plan}{exercise.completion}").verdict is Verdict.LUCKY


def test_spaces_are_single_as_words_are_joined():
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace()]
    assert len(spaces) > 20
    for space in spaces:
        for text in (space, f"a{space}b", f"{space}a", f"a {space}", f"a{space}{space}\u4e3a", " a b "):
            assert single_spaced(text) == " ".join(text.split())
    assert single_spaced("a\0  b\u200b ") == "a\0 b\u200b"


def test_products_without_a_sign_are_read_within_a_step_too():
    text = (
        " Define {0} as a; so a = 3. Define {1} as b; so b = 6. "
        "Define {2} as c; t = 2(a + b) = 2(3 + 6) = 2 * 9 = {3}; so c = t = {3}. Answer: {3}."
    )
    exercise = summed(Operation.TIMES, 2, frames="english")
    right = grade(exercise, text.format(*exercise.names, 18))
    assert right.verdict is Verdict.CORRECT
    assert PRODUCTS in right.deviation
    assert grade(exercise, text.format(*exercise.names, 17)).verdict is Verdict.WRONG


def test_mutations_that_keep_the_answer_are_luck(exercises):
    for kind in ("wrong_value", "wrong_equation", "no_equation", "taken_back", "missing_step"):
        for exercise, _ in exercises:
            mutated = mutate(exercise, kind, random.Random(0))
            if mutated is not None:
                result = grade(exercise, mutated)
                assert (result.verdict, result.answer) == (Verdict.LUCKY, exercise.answer)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("a 3 ; b 2 + a = 2 + 3 = 6 ; c b - a = 5 - 3 = 2 ; answer 2", {"wrong_value", "false_arithmetic"}),
        ("a 3 ; b 3 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"wrong_operand", "wrong_value"}),
        ("a 3 ; b 2 * a = 2 * 3 = 6 ; c b - a = 5 - 3 = 2 ; answer 2", {"wrong_operation", "wrong_value"}),
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; c a - b = 5 - 3 = 2 ; answer 2", {"wrong_operand", "wrong_value"}),
        ("a 3 ; c b - a = 5 - 3 = 2 ; b 2 + a = 2 + 3 = 5 ; answer 2", {"used_before_defined"}),
        ("a 4 ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"redefined", "wrong_value"}),
        ("a 3 ; a 4 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"redefined", "wrong_value"}),
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; answer 2", {"missing"}),
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 9 - 7 = 2 ; answer 2", {"wrong_value"}),
        ("a 3 ; b 2 + a = 2 + 3 = 9 - 4 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"false_arithmetic"}),
        ("lion 3 ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"unknown"}),
        ("so 3 ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"unknown"}),
        ("= 3 ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"malformed"}),
        ("find b 2 + c ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"wrong_operand"}),
    ],
)
def test_a_right_answer_by_a_wrong_step_is_luck(owls: Exercise, text: str, counted: set[str]):
    result = grade(owls, say(owls, text))
    assert result.verdict is Verdict.LUCKY
    assert result.answer_correct
    assert counted <= {kind for kind in result.to_dict() if result.to_dict()[kind] in (1, 2) and kind != "answer"}
    assert result.first_error


@pytest.mark.parametrize(
    ("text", "deviation"),
    [
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", ()),
        ("a 3 ; b a + 2 = 3 + 2 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", ("terms in another order",)),
        ("a 3 ; b 2 + a = 5 ; c b - a = 2 ; answer 2", ("several calculations at once",)),
    ],
)
def test_what_a_fair_teacher_accepts_is_correct_and_named(owls: Exercise, text: str, deviation: tuple[str, ...]):
    result = grade(owls, say(owls, text))
    assert result.verified
    assert result.deviation == deviation


@pytest.mark.parametrize(
    ("exercise", "chain", "is_right"),
    [
        (SUM, "2 + ( a + b ) = 2 + ( 3 + 6 ) = 2 + 9 = 11", True),
        (SUM, "2 + ( a + b ) = 2 + ( 3 + 6 ) = 5 + 6 = 11", True),
        (SUM, "2 + ( a + b ) = 2 + ( 3 + 6 ) = 8 + 3 = 11", True),
        (SUM, "2 + ( a + b ) = 2 + 9 = 11", True),
        (SUM, "2 + ( a + b ) = 2 + ( 3 + 6 ) = 2 + ( 8 + 1 ) = 11", False),
        (SUM, "2 + ( a + b ) = 2 + ( 3 + 6 ) = 10 + 1 = 11", False),
        (SUM, "2 + ( a + b ) = 2 + ( 3 + 6 ) = 0 + 11 = 11", False),
        (PRODUCT, "( a + b ) * 2 = ( 3 + 6 ) * 2 = 2 * 9 = 18", True),
        (PRODUCT, "2 * ( a + b ) = 9 * 2 = 18", True),
        (PRODUCT, "2 * ( a + b ) = 2 * ( 3 + 6 ) = 3 * 6 = 18", False),
        (PRODUCT, "2 * ( a + b ) = 3 * 6 = 18", False),
        (REMAINDER, "2 * ( a + b ) = 2 * ( 3 + 6 ) = 2 * 2 = 4", True),
        (REMAINDER, "2 * ( a + b ) = 2 * ( 3 + 6 ) = 2 * ( 700 + 2 ) = 4", False),
        (REMAINDER, "2 * ( a + b ) = 2 * ( 3 + 6 ) = 2 * 9 = 4", False),
    ],
)
def test_a_link_follows_only_by_calculations_of_the_one_before(exercise: Exercise, chain: str, is_right: bool):
    result = grade(exercise, say(exercise, f"a 3 ; b 6 ; c {chain} ; answer {exercise.answer}"))
    assert result.verified is is_right
    assert result.answer_correct
    assert result.process_accuracy == pytest.approx(1 if is_right else 2 / 3)


def test_an_answer_before_the_work_is_a_guess(owls: Exercise):
    result = grade(owls, say(owls, "answer 2 ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ;"))
    assert result.verdict is Verdict.LUCKY
    assert result.used_before_defined == 1
    assert result.first_error == "answer: it is given before the asked quantity is computed"


def test_a_wrong_second_definition_takes_the_credit_of_the_first(owls: Exercise):
    once = "a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ;"
    assert grade(owls, say(owls, f"{once} b 4 ; answer 2")).process_accuracy == pytest.approx(2 / 3)
    assert grade(owls, say(owls, f"{once} a 3 ; answer 2")).process_accuracy == 1


@pytest.mark.parametrize("modulus", [None, 7])
def test_groups_of_a_sum_agree_with_brute_force(modulus: int | None):
    """Every multiset that arises by merging terms two at a time is accepted, and no other of the same total."""
    rng = random.Random(0)
    for _ in range(200):
        terms = [rng.randint(0, 6) for _ in range(rng.randint(2, 5))]
        reached, waiting = set(), [tuple(sorted(terms))]
        while waiting:
            state = waiting.pop()
            if state in reached:
                continue
            reached.add(state)
            for i, j in itertools.combinations(range(len(state)), 2):
                total = (state[i] + state[j]) % modulus if modulus else state[i] + state[j]
                rest = [term for at, term in enumerate(state) if at not in (i, j)]
                waiting.append(tuple(sorted([*rest, total])))
        for size in range(1, len(terms) + 1):
            tried = {tuple(sorted(rng.randint(0, 9) for _ in range(size))) for _ in range(20)} | reached
            for later in tried:
                assert regroups(list(later), terms, modulus) == (later in reached), (later, terms)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("answer 2", Verdict.LUCKY),
        ("answer 3", Verdict.WRONG),
        ("answer 2 ; answer 3", Verdict.WRONG),
        ("answer 3 ; answer 2", Verdict.LUCKY),
        ("answer two", Verdict.UNREADABLE),
        ("answer 2.0", Verdict.LUCKY),
        ("answer 2.9", Verdict.WRONG),
        ("answer 02", Verdict.UNREADABLE),
        ("answer ( 2 )", Verdict.UNREADABLE),
        ("", Verdict.UNREADABLE),
        ("2", Verdict.UNREADABLE),
    ],
)
def test_verdicts_tell_outcomes_apart(owls: Exercise, text: str, verdict: Verdict):
    assert grade(owls, text).verdict is verdict


def test_an_unfinished_solution_is_truncated_even_if_it_looks_whole(owls: Exercise):
    result = grade(owls, owls.completion, finished=False)
    assert result.verdict is Verdict.TRUNCATED
    assert not result.verified
    assert not result.answer_correct
    assert result.process_accuracy == 1


def test_rewards_are_what_their_names_say(owls: Exercise):
    lucky = grade(owls, say(owls, "a 3 ; b 2 + a = 2 + 3 = 5 ; answer 2"))
    wrong = grade(owls, say(owls, "a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 1 ; answer 1"))
    assert (rewards.outcome(lucky), rewards.strict(lucky)) == (1, 0)
    assert rewards.process(lucky) == pytest.approx(2 / 3)
    assert rewards.mix(lucky, 0.25) == pytest.approx(0.25 + 0.75 * 2 / 3)
    assert rewards.gated(lucky, 0.25) == rewards.mix(lucky, 0.25)
    assert rewards.gated(wrong, 0.25) == 0 < rewards.mix(wrong, 0.25)
    assert rewards.named_reward("mix", 0.25)(lucky) == rewards.mix(lucky, 0.25)


def test_unknown_rewards_are_refused():
    with pytest.raises(ValueError, match="there is no reward 'best': give one of outcome"):
        rewards.named_reward("best")


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("a 3 ; b 9 ; undo ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", set()),
        ("a 3 ; b 9 ; b 8 ; undo ; undo ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", set()),
        ("find c a ; undo ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", set()),
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; check : 9 - 3 = 5 ; undo ; c b - a = 5 - 3 = 2 ; answer 2", set()),
        ("a 3 ; b 9 ; b 2 + a = 2 + 3 = 5 ; undo ; c b - a = 5 - 3 = 2 ; answer 2", {"wrong_operation", "wrong_value"}),
        ("a 3 ; undo ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"missing", "used_before_defined"}),
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; undo ; answer 2", {"missing", "used_before_defined"}),
        ("undo ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"malformed"}),
        ("a 3 ; undo ; undo ; a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2", {"malformed"}),
        ("a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 3 ; undo ; answer 2", {"malformed", "redefined"}),
    ],
)
def test_what_is_taken_back_counts_neither_for_nor_against(owls: Exercise, text: str, counted: set[str]):
    result = grade(owls, say(owls, text))
    assert result.answer_correct
    assert errors_of(result) == counted
    assert result.verified is (not counted)
    assert result.deviation == ()


def errors_of(result) -> set[str]:
    return {kind for kind in ERRORS if getattr(result, kind)}


@pytest.mark.parametrize(
    ("check", "counted"),
    [
        ("5 - 3 = 2", set()),
        ("2 * 3 = 6", set()),
        ("7 = 3 + 4 = 9 - 2", set()),
        ("5 - 3 = 3", {"false_arithmetic"}),
        ("5 / 2 = 2", {"false_arithmetic"}),
        ("b - a = 2", set()),
        ("b - a = 3", {"false_arithmetic"}),
        ("b - c = 3", {"malformed"}),
        ("5", {"malformed"}),
        ("5 = ", {"malformed"}),
        ("- 5 = - 5", {"malformed"}),
    ],
)
def test_a_false_check_is_caught(owls: Exercise, check: str, counted: set[str]):
    text = f"a 3 ; b 2 + a = 2 + 3 = 5 ; check : {check} ; c b - a = 5 - 3 = 2 ; answer 2"
    result = grade(owls, say(owls, text))
    assert result.answer_correct
    assert errors_of(result) == counted


def test_what_is_not_needed_must_still_be_true():
    nodes = (*FRUIT.graph.nodes, Node(Quantity(1, 1), Operation.TIMES, 2, (0,)))
    exercise = render(Problem(DependencyGraph(nodes), 2), load_template("zoo", "terse"), random.Random(0))
    lookup = dict(zip("abcd", exercise.names, strict=True))

    def graded(middle: str):
        text = f"a 3 ; {middle} ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ; answer 2"
        return grade(exercise, " ".join(lookup.get(word, word) for word in text.split()))

    fine = graded("d 2 * a = 2 * 3 = 6")
    assert fine.verified
    assert (fine.extra, fine.deviation) == (1, ("a quantity that is not needed",))
    for middle in ("d 2 * a = 2 * 3 = 7", "d 2 * a = 2 * 4 = 8", "d 6", "d 2 * b = 2 * 5 = 10", "d 2 * a"):
        assert graded(middle).verdict is Verdict.LUCKY


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("<think> {steps} </think> <answer> 2 </answer>", Verdict.CORRECT),
        ("<think> {steps} </think><answer>2</answer>", Verdict.CORRECT),
        ("<think> {steps} </think> <answer> 3 </answer>", Verdict.WRONG),
        ("<think> {steps} answer 2 ; </think> <answer> 2 </answer>", Verdict.CORRECT),
        ("<think> {steps} answer 3 ; </think> <answer> 2 </answer>", Verdict.LUCKY),
        ("<think> {steps} </think> answer 2", Verdict.CORRECT),
        ("{steps} <answer> 2 </answer>", Verdict.CORRECT),
        ("<think> </think> <answer> 2 </answer>", Verdict.LUCKY),
        ("<think> {steps} </think> so <answer> 2 </answer>", Verdict.LUCKY),
        ("<think> {steps} </think> <answer> 2 </answer> <answer> 2 </answer>", Verdict.UNREADABLE),
        ("<think> {steps} <answer> 2 </answer> </think>", Verdict.UNREADABLE),
        ("<answer> 2 </answer> <think> {steps} </think>", Verdict.UNREADABLE),
        ("{steps} answer 2", Verdict.CORRECT),
        ("{steps} </think> answer 2", Verdict.UNREADABLE),
        ("<think> {steps} </think> <answer> 2", Verdict.CORRECT),
        ("<think> {steps} </think> <answer> two </answer>", Verdict.UNREADABLE),
    ],
)
def test_thoughts_and_answers_stand_in_their_tags_once(text: str, verdict: Verdict):
    exercise = render(FRUIT, load_template("zoo", "terse"), random.Random(0), Style(form="think"))
    steps = say(exercise, "a 3 ; b 2 + a = 2 + 3 = 5 ; c b - a = 5 - 3 = 2 ;")
    assert grade(exercise, text.format(steps=steps)).verdict is verdict


def test_an_answer_alone_is_graded_alone():
    exercise = render(FRUIT, load_template("zoo", "terse"), random.Random(0), Style(form="answer_only"))
    assert grade(exercise, "answer 2").verified
    assert grade(exercise, "answer 3").verdict is Verdict.WRONG
    assert grade(exercise, "answer 3 ; answer 2").verdict is Verdict.LUCKY
    assert grade(exercise, "2").verdict is Verdict.UNREADABLE
