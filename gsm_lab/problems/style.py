"""How a problem is told and solved, whatever its words: orders, forms, checks and slips."""

from dataclasses import dataclass

from gsm_lab.errors import SpecError
from gsm_lab.problems.grammar import FORMS

SENTENCE_ORDERS = ("shuffled", "computation", "reversed")
TRACE_ORDERS = ("leaf_first", "random", "goal_directed")


@dataclass(frozen=True, kw_only=True)
class Style:
    """In which order a problem is told, and how its solution is written.

    Raises:
        SpecError: an order or a form that does not exist, or a share outside 0 to 1.
    """

    sentence_order: str = "shuffled"
    """"shuffled"; "computation": every quantity after those it is computed from; "reversed": before them."""
    trace_order: str = "leaf_first"
    """"leaf_first": steps in the problem's order of computation; "random": in any order of computation;
    "goal_directed": first a plan that unfolds the definitions from the question on, then the steps from its end back to
    its beginning."""
    form: str = "steps"
    """"steps"; "answer_only"; "think": the steps in <think> tags, the answer in <answer> tags."""
    checks: float = 0.0
    """Chance that a step is followed by a check, which calculates back; 0 to 1."""
    recovery: float = 0.0
    """Chance that a step is first done wrong, noticed, and done again; 0 to 1."""
    rules: bool = False
    """Whether the text says the rules of the implicit totals that it relies on."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("sentence_order", self.sentence_order, SENTENCE_ORDERS),
            ("trace_order", self.trace_order, TRACE_ORDERS),
            ("form", self.form, FORMS),
        ):
            if value not in known:
                raise SpecError(f"{name}={value!r}: give one of {known}.")
        for name, share in (("checks", self.checks), ("recovery", self.recovery)):
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise SpecError(f"{name}={share}: give a chance from 0 to 1.")
        if type(self.rules) is not bool:
            raise SpecError(f"rules={self.rules!r}: give True or False.")
