"""What is asked of a problem: its difficulty and the ranges of its numbers."""

from dataclasses import dataclass, fields
from functools import cached_property

from gsm_lab.errors import SpecError

MODES = ("forward", "reverse")
OPERATIONS = ("add", "subtract", "multiply", "divide")
DISTRACTOR_KINDS = ("independent", "reachable", "dead_end")
MOST_OP = 200
MOST_WIDTH = 20
MOST_DISTRACTORS = 10_000
DEFAULT_DISTRACTORS = (0, 4)
REVERSE_ANSWERS = (1, 20)
PLACES = 10
ITEMS = 10
"""Every context has at least so many places, and kinds of item."""
MOST_PLACES = 580
"""So many places a context can name: its own ten and its further ones."""
GREATEST_MULTIPLIER = 4
"""Where there is no modulus."""
Range = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ProblemSpec:
    """The settings of one kind of problem; `ProblemSpec(op=10)` is enough.

    Where a range is wanted, a single number stands for exactly that number.

    Raises:
        SpecError: a setting out of its range, or two that contradict each other.
    """

    op: int
    """Operands over all needed quantities, a constant counted as one; hit exactly. 1 to 200."""
    mode: str = "forward"
    """"forward": the last quantity is asked for. "reverse": its value is told, and a constant is asked for
    (with op 1 these are one, and the problem is a forward one)."""
    depth: Range | int | None = None
    """Fewest and most quantities in the longest chain, 1 to 200; all lengths in the range that `op` allows are equally
    likely. None leaves it to chance."""
    width: Range | int = (0, 3)
    """Range of the largest number of parents, 0 to 20."""
    distractors: Range | int | None = None
    """Fewest and most quantities that the answer does not depend on, 0 to 10000; (0, 4) if `facts` is None too."""
    distractor_kinds: tuple[str, ...] = DISTRACTOR_KINDS
    """Kinds of distractors, all equally likely. "independent": computed from constants and other distractors, each of
    which is used once at most; "reachable": computed from needed quantities too; "dead_end": computed from needed
    quantities, alike in name to the last of them, and used by nothing. Of several kinds, one for which no name is
    left takes another name, and counts as what that makes it; a single kind is refused then."""
    facts: Range | int | None = None
    """Instead of `distractors`: fewest and most facts in the text, 1 to 10000. Distractors fill it up to a number drawn
    from here, whatever `op` is, so that deeper problems need not be longer ones. A text that needs more facts than that
    has no distractors."""
    implicit_totals: float = 0.2
    """Chance that a quantity with several parents is a total that the text never defines, 0 to 1, where the values
    leave room for it."""
    nested_totals: float = 0.0
    """Chance that such a total is nested, 0 to 1: the sum of count times average, over pairs of parents."""
    places: int | None = None
    """How many different places a text may speak of, 2 to 580; few make a small vocabulary. None: 10, or more if there
    are many quantities."""
    items: int = ITEMS
    """How many kinds of item there may be, 2 to 10."""
    reuse: float = 0.2
    """Chance that a parent is a quantity that something else needs too, 0 (a tree) to 1."""
    copies: float = 0.15
    """Chance that a quantity with one parent is a plain copy of it, 0 (never) to 1."""
    composites: float = 0.25
    """Chance that several parents meet a constant at once, 0 (never) to 1: "2 times the sum of A and B"."""
    operations: tuple[str, ...] = ("add", "subtract", "multiply")
    """Which of "add", "subtract", "multiply", "divide" may occur (copies and constants always may)."""
    operation_weights: tuple[float, ...] | None = None
    """How often each of `operations` is tried first, in the same order; None: all alike."""
    constants: Range = (1, 9)
    """Least and greatest constant in the text; multipliers and divisors are at least 2, and multipliers at most 4 where
    there is no modulus."""
    values: Range = (0, 1000)
    """Least and greatest value of any quantity, distractors too; with a modulus m, values are 0 to m - 1 instead."""
    modulus: int | None = None
    """Count modulo this number."""
    answers: Range | int | None = None
    """Least and greatest answer. None: whatever `values` allow; in reverse problems, which are always balanced,
    (1, 20)."""
    balanced: bool = False
    """Whether all `answers` are equally likely; a forward problem then needs a range of answers, or a modulus."""

    def __post_init__(self) -> None:
        for name in ("depth", "width", "distractors", "facts", "answers"):
            if type(number := getattr(self, name)) is int:
                object.__setattr__(self, name, (number, number))
        self._check_types()
        self._check_choice("mode", self.mode, MODES)
        self._check_number("op", self.op, 1, MOST_OP)
        self._check_number("places", self.num_places, 2, MOST_PLACES)
        self._check_number("items", self.items, 2, ITEMS)
        for name in ("implicit_totals", "nested_totals", "reuse", "copies", "composites"):
            self._check_number(name, getattr(self, name), 0, 1)
        self._check_range("width", self.widths, 0, MOST_WIDTH)
        if self.depth is not None:
            self._check_range("depth", self.depths, 1, MOST_OP)
        if self.distractors is not None and self.facts is not None:
            raise SpecError(
                f"distractors={self.distractors} and facts={self.facts} contradict each other: "
                f"give the number of distractors or the number of facts, not both."
            )
        self._check_range("distractors", self.num_distractors, 0, MOST_DISTRACTORS)
        if self.facts is not None:
            self._check_range("facts", self.num_facts, 1, MOST_DISTRACTORS)
        for kind in self.distractor_kinds:
            self._check_choice("distractor_kinds", kind, DISTRACTOR_KINDS)
        if len(set(self.distractor_kinds)) != len(self.distractor_kinds):
            raise SpecError(f"distractor_kinds={self.distractor_kinds}: give each once.")
        if not self.distractor_kinds and self.most_distractors:
            raise SpecError("distractor_kinds is empty and distractors are not: name a kind, or ask for none.")
        self._check_operations()
        self._check_values()
        if self.most_quantities > 2 * self.num_places * self.items or self.op > self.num_places * self.items:
            raise SpecError(
                f"op={self.op}, distractors={self.distractors}, facts={self.facts} and places={self.places}, "
                f"items={self.items} contradict each other: there may be {self.most_quantities} quantities, "
                f"{self.op} of them needed, and there are {self.num_places * self.items} names, and as many for "
                f"averages; raise places or items, or ask for less."
            )

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Specs are keys of the tables that draws look up, so their hash is computed once."""
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

    @cached_property
    def widths(self) -> Range:
        """`width` as a range."""
        return (self.width, self.width) if isinstance(self.width, int) else self.width

    @cached_property
    def depths(self) -> Range:
        """`depth` as a range; every depth if it is None."""
        if self.depth is None:
            return (1, MOST_OP)
        return (self.depth, self.depth) if isinstance(self.depth, int) else self.depth

    @cached_property
    def num_distractors(self) -> Range:
        """`distractors` as a range, or what stands for it where it is None."""
        if self.distractors is None:
            return DEFAULT_DISTRACTORS
        return (self.distractors, self.distractors) if isinstance(self.distractors, int) else self.distractors

    @cached_property
    def num_facts(self) -> Range:
        """`facts` as a range; there must be one."""
        assert self.facts is not None
        return (self.facts, self.facts) if isinstance(self.facts, int) else self.facts

    @cached_property
    def answer_range(self) -> Range | None:
        """`answers` as a range, or what stands for it where it is None; None if any answer will do."""
        if self.answers is not None:
            return (self.answers, self.answers) if isinstance(self.answers, int) else self.answers
        if self.mode == "reverse":
            low = max(REVERSE_ANSWERS[0], self.values[0])
            return low, max(low, min(REVERSE_ANSWERS[1], self.values[1]))
        return (0, self.modulus - 1) if self.modulus is not None and self.balanced else None

    @cached_property
    def most_distractors(self) -> int:
        """No problem of this kind has more distractors."""
        return self.num_distractors[1] if self.facts is None else self.num_facts[1]

    @cached_property
    def most_quantities(self) -> int:
        """No problem of this kind has more: every needed quantity takes an operand at least."""
        if self.facts is not None:
            return max(self.op, self.num_facts[1])
        return self.op + self.num_distractors[1]

    @cached_property
    def num_places(self) -> int:
        """`places`, or as many as there must be to name every quantity with some to spare."""
        if self.places is not None:
            return self.places
        return max(PLACES, min(MOST_PLACES, -(-self.most_quantities * 3 // (2 * self.items))))

    def _check_types(self) -> None:
        """Whole numbers, pairs of them, and tuples: what is written into data sets and identities."""
        wholes = [("op", self.op), ("items", self.items)]
        wholes += [(name, value) for name in ("modulus", "places") if (value := getattr(self, name)) is not None]
        for name, value in wholes:
            if type(value) is not int:
                raise SpecError(f"{name}={value!r}: give a whole number.")
        names = ("depth", "width", "distractors", "facts", "constants", "values", "answers")
        for name in names:
            pair = getattr(self, name)
            if pair is None and name not in ("width", "constants", "values"):
                continue
            if type(pair) is not tuple or [type(number) for number in pair] != [int, int]:
                raise SpecError(f"{name}={pair!r}: give a tuple of two whole numbers, the least and the greatest.")
        for name in ("operations", "distractor_kinds"):
            if type(getattr(self, name)) is not tuple:
                raise SpecError(f"{name}={getattr(self, name)!r}: give a tuple of names.")
        if type(self.balanced) is not bool:
            raise SpecError(f"balanced={self.balanced!r}: give True or False.")

    def _check_operations(self) -> None:
        for name in self.operations:
            self._check_choice("operations", name, OPERATIONS)
        if len(set(self.operations)) != len(self.operations):
            raise SpecError(f"operations={self.operations}: give each once.")
        weights = self.operation_weights
        if weights is not None and (
            type(weights) is not tuple
            or len(weights) != len(self.operations)
            or any(isinstance(w, bool) or not isinstance(w, int | float) or not 0 < w < 1e9 for w in weights)
        ):
            raise SpecError(
                f"operation_weights={weights} and operations={self.operations} contradict each other: "
                f"give a number above 0 for each operation."
            )
        if self.modulus is not None and "divide" in self.operations:
            raise SpecError(
                f"operations={self.operations} and modulus={self.modulus} contradict each other: "
                f"remainders cannot be divided exactly; leave out divide or the modulus."
            )

    def _check_values(self) -> None:
        self._check_range("constants", self.constants, 0, 10**6)
        self._check_range("values", self.values, 0, 10**9)
        if self.modulus is not None:
            self._check_number("modulus", self.modulus, 2, 10**6)
            if self.constants[1] >= self.modulus:
                raise SpecError(
                    f"constants={self.constants} and modulus={self.modulus} contradict each other: "
                    f"constants must be below the modulus; lower the one or raise the other."
                )
            if self.mode == "reverse":
                raise SpecError(
                    f"mode='reverse' and modulus={self.modulus} contradict each other: an equation of remainders may "
                    f"have many solutions; leave out the modulus."
                )
        elif not (self.values[0] <= self.constants[0] and self.constants[1] <= self.values[1]):
            raise SpecError(
                f"constants={self.constants} and values={self.values} contradict each other: "
                f"a quantity that equals a constant must fit the values; widen values or narrow constants."
            )
        if self.balanced and self.answer_range is None:
            raise SpecError("balanced=True and answers=None contradict each other: give a range of answers.")
        if self.answer_range is not None:
            low, high = (0, self.modulus - 1) if self.modulus is not None else self.values
            if self.mode == "reverse":
                low = max(1, low)
            self._check_range("answers", self.answer_range, low, high)

    def _check_choice(self, name: str, value: object, known: tuple[str, ...]) -> None:
        if value not in known:
            raise SpecError(f"{name}={value!r}: give one of {known}.")

    def _check_number(self, name: str, value: float, low: float, high: float) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise SpecError(f"{name}={value}: give a number from {low} to {high}.")

    def _check_range(self, name: str, pair: Range, low: int, high: int) -> None:
        if not low <= pair[0] <= pair[1] <= high:
            raise SpecError(f"{name}={pair}: give a least and a greatest number, in this order, from {low} to {high}.")
