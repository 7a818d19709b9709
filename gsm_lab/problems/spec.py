"""What is asked of a problem: its difficulty and the ranges of its numbers."""

from dataclasses import dataclass

from gsm_lab.errors import SpecError

OPERATIONS = ("add", "subtract", "multiply")
MOST_OP = 60
MOST_DISTRACTORS = 30
MOST_FACTS = 40
DEFAULT_DISTRACTORS = (0, 4)
DISTRACTOR_PARENTS = ("any", "distractors")
PLACES = 10
ITEMS = 10
"""Every context has at least so many places, and kinds of item."""


@dataclass(frozen=True, kw_only=True)
class ProblemSpec:
    """The settings of one kind of problem; `ProblemSpec(op=10)` is enough.

    Raises:
        SpecError: a setting out of its range, or two that contradict each other.
    """

    op: int
    """Operands over all needed quantities, a constant counted as one; hit exactly. 1 to 60."""
    distractors: tuple[int, int] | None = None
    """Fewest and most quantities that the answer does not depend on, 0 to 30; (0, 4) if this and `facts` are None."""
    distractor_parents: str = "any"
    """From what distractors are computed: "any" quantity, or "distractors", each used once at most, so that distractors
    keep to themselves."""
    facts: tuple[int, int] | None = None
    """Instead of `distractors`: fewest and most facts in the text, 1 to 40. Distractors fill it up to a number drawn
    from here, whatever `op` is, so that deeper problems need not be longer ones. A text that needs more facts than that
    has no distractors."""
    implicit_totals: float = 0.2
    """Chance that a quantity with several parents is a total that the text never defines, 0 to 1."""
    places: int = PLACES
    """How many different places a text may speak of, 2 to 10; few make a small vocabulary."""
    items: int = ITEMS
    """How many kinds of item there may be, 2 to 10."""
    reuse: float = 0.2
    """Chance that a parent is a quantity that something else needs too, 0 (a tree) to 1."""
    copies: float = 0.15
    """Chance that a quantity with one parent is a plain copy of it, 0 (never) to 1."""
    width: int = 3
    """Most parents of a quantity, 1 to 5."""
    composites: bool = True
    """Whether a constant may meet several parents at once: "2 times the sum of A and B"."""
    operations: tuple[str, ...] = OPERATIONS
    """Which of "add", "subtract", "multiply" may occur (copies and constants always may)."""
    constants: tuple[int, int] = (1, 9)
    """Least and greatest constant in the text; multipliers are at least 2 and at most 4 where there is no modulus."""
    values: tuple[int, int] = (0, 1000)
    """Least and greatest value of any quantity, distractors too; with a modulus m, values are 0 to m - 1 instead."""
    modulus: int | None = None
    """Count modulo this number."""

    def __post_init__(self) -> None:
        self._check_types()
        self._check_range("op", self.op, 1, MOST_OP)
        self._check_range("width", self.width, 1, 5)
        self._check_range("places", self.places, 2, PLACES)
        self._check_range("items", self.items, 2, ITEMS)
        self._check_range("implicit_totals", self.implicit_totals, 0, 1)
        self._check_range("reuse", self.reuse, 0, 1)
        self._check_range("copies", self.copies, 0, 1)
        if self.distractors is not None and self.facts is not None:
            raise SpecError(
                f"distractors={self.distractors} and facts={self.facts} contradict each other: "
                f"give the number of distractors or the number of facts, not both."
            )
        self._check_pair("distractors", self.num_distractors, 0, MOST_DISTRACTORS)
        if self.facts is not None:
            self._check_pair("facts", self.facts, 1, MOST_FACTS)
        self._check_pair("constants", self.constants, 0, 10**6)
        self._check_pair("values", self.values, 0, 10**9)
        if self.most_quantities > self.places * self.items:
            raise SpecError(
                f"op={self.op}, distractors={self.distractors}, facts={self.facts} and places={self.places}, "
                f"items={self.items} contradict each other: there may be {self.most_quantities} quantities and there "
                f"are {self.places * self.items} names; raise places or items, or ask for less."
            )
        if self.distractor_parents not in DISTRACTOR_PARENTS:
            raise SpecError(f"distractor_parents={self.distractor_parents!r}: give one of {DISTRACTOR_PARENTS}.")
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown or len(set(self.operations)) != len(self.operations):
            raise SpecError(f"operations={self.operations}: give some of {OPERATIONS}, each once.")
        if self.modulus is not None:
            self._check_range("modulus", self.modulus, 2, 10**6)
            if self.constants[1] >= self.modulus:
                raise SpecError(
                    f"constants={self.constants} and modulus={self.modulus} contradict each other: "
                    f"constants must be below the modulus; lower the one or raise the other."
                )
        elif not (self.values[0] <= self.constants[0] and self.constants[1] <= self.values[1]):
            raise SpecError(
                f"constants={self.constants} and values={self.values} contradict each other: "
                f"a quantity that equals a constant must fit the values; widen values or narrow constants."
            )

    @property
    def most_quantities(self) -> int:
        """No problem of this kind has more: every needed quantity takes an operand at least."""
        if self.facts is not None:
            return max(self.op, self.facts[1])
        return self.op + self.num_distractors[1]

    @property
    def num_distractors(self) -> tuple[int, int]:
        """`distractors`, or what stands for it where it is None."""
        return DEFAULT_DISTRACTORS if self.distractors is None else self.distractors

    def _check_types(self) -> None:
        """Whole numbers, pairs of them, and tuples: what is written into data sets and identities."""
        wholes = [("op", self.op), ("width", self.width), ("places", self.places), ("items", self.items)]
        wholes += [] if self.modulus is None else [("modulus", self.modulus)]
        for name, value in wholes:
            if type(value) is not int:
                raise SpecError(f"{name}={value!r}: give a whole number.")
        pairs = [("distractors", self.num_distractors), ("constants", self.constants), ("values", self.values)]
        pairs += [] if self.facts is None else [("facts", self.facts)]
        for name, pair in pairs:
            if type(pair) is not tuple or [type(number) for number in pair] != [int, int]:
                raise SpecError(f"{name}={pair!r}: give a tuple of two whole numbers, the least and the greatest.")
        if type(self.operations) is not tuple:
            raise SpecError(f"operations={self.operations!r}: give a tuple of some of {OPERATIONS}.")

    def _check_range(self, name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise SpecError(f"{name}={value}: give a number from {low} to {high}.")

    def _check_pair(self, name: str, pair: tuple[int, int], low: int, high: int) -> None:
        if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
            raise SpecError(f"{name}={pair}: give a least and a greatest number, in this order, from {low} to {high}.")
