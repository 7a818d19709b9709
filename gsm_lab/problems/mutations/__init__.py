"""Gold solutions with one thing made wrong, class by class: what a grader must catch, however much it forgives.

Every mutation changes the meaning: where a change could be harmless, as an operand replaced by a copy of it is, another
place is taken, or none.
"""

import random
from collections.abc import Callable

from gsm_lab.errors import SpecError
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.mutations.answers import answer_alone, answer_first, changed_answer, second_answer, wrong_answer
from gsm_lab.problems.mutations.definitions import (
    circular,
    extra_operand,
    lost_brackets,
    missing_operand,
    no_operator,
    swapped_operands,
    undefined_operand,
    wrong_constant,
    wrong_operand,
    wrong_operator,
)
from gsm_lab.problems.mutations.equations import (
    no_equation,
    wrong_equation,
    wrong_form,
    wrong_given,
    wrong_left_side,
    wrong_solving,
)
from gsm_lab.problems.mutations.numbers import (
    bare_value,
    carried_slip,
    contradiction,
    decimal_value,
    exchanged_constants,
    false_equality,
    false_grouping,
    false_link,
    nonsense_numbers,
    obvious,
    scaled_value,
    wrong_value,
)
from gsm_lab.problems.mutations.steps import (
    false_check,
    false_extra,
    false_unknown,
    hallucinated_step,
    mislabelled_helper,
    missing_step,
    redefined,
    taken_back,
    used_before_defined,
    wrong_name,
    wrong_plan,
)
from gsm_lab.problems.rewriting import Gold
from gsm_lab.problems.statements import Statement

Mutation = Callable[[Gold, random.Random], list[Statement] | None]


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        wrong_operator,
        wrong_operand,
        undefined_operand,
        missing_operand,
        extra_operand,
        swapped_operands,
        lost_brackets,
        circular,
        wrong_constant,
        no_operator,
        wrong_value,
        false_equality,
        false_link,
        nonsense_numbers,
        false_grouping,
        bare_value,
        obvious,
        decimal_value,
        contradiction,
        scaled_value,
        carried_slip,
        exchanged_constants,
        missing_step,
        taken_back,
        used_before_defined,
        redefined,
        wrong_name,
        wrong_plan,
        hallucinated_step,
        mislabelled_helper,
        false_extra,
        false_unknown,
        false_check,
        wrong_answer,
        answer_first,
        answer_alone,
        second_answer,
        changed_answer,
        wrong_equation,
        wrong_given,
        wrong_solving,
        wrong_left_side,
        wrong_form,
        no_equation,
    )
}


def mutate(exercise: Exercise, kind: str, rng: random.Random) -> str | None:
    """The gold solution with one mutation of that kind, or None if it has no place for one.

    Steps that the gold solution takes back, and its checks, are left out first.

    Raises:
        SpecError: no such kind.
    """
    if kind not in MUTATIONS:
        raise SpecError(f"kind={kind!r}: give one of {', '.join(MUTATIONS)}.")
    gold = Gold.of(exercise)
    changed = None if gold is None else MUTATIONS[kind](gold, rng)
    return None if gold is None or changed is None else gold.write(changed)
