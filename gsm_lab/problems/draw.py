"""Draws problems with exactly the wanted `op`, by construction.

The graph grows from the question down. A quantity that still has no definition costs at least one operand, so at every
step only those definitions are considered after which the operands left over can still be spent exactly
(`can_spend`). Then numbers are chosen from the leaves up, within the wanted range of values.
"""

import random
from dataclasses import dataclass
from functools import lru_cache

from gsm_lab.errors import SpecError
from gsm_lab.problems.graph import DependencyGraph, Node, Operation, Problem, Quantity
from gsm_lab.problems.spec import MOST_OP, ProblemSpec

STRUCTURE_ATTEMPTS = 20
VALUE_ATTEMPTS = 200
"""Tries for the numbers of one structure."""


@dataclass(frozen=True)
class Shape:
    """What kind of definition: so many parents, with or without a constant."""

    parents: int
    constant: bool
    weight: float

    @property
    def op(self) -> int:
        return self.parents + self.constant


@dataclass
class Draft:
    """A node being made: its parents' numbers are greater than its own, so its leaves come last."""

    parents: list[int]
    constant: bool
    is_total: bool = False
    place_of: int | None = None
    """The number of the total whose place this one belongs to."""


def draw_problem(spec: ProblemSpec, rng: random.Random) -> Problem:
    """A problem with exactly `spec.op`; all randomness is `rng`'s.

    Raises:
        SpecError: settings that contradict each other: no such graph, or no such numbers.
    """
    for _ in range(STRUCTURE_ATTEMPTS):
        drafts = _draw_structure(spec, rng)
        names = _draw_names(drafts, spec, rng)
        for _ in range(VALUE_ATTEMPTS):
            nodes = _draw_numbers(drafts, names, spec, rng)
            if nodes is not None:
                return Problem(DependencyGraph(_with_distractors(nodes, spec, rng)), names[0], spec.modulus)
    raise SpecError(
        f"op={spec.op} contradicts values={spec.values}, constants={spec.constants} or operations={spec.operations}: "
        f"none of {STRUCTURE_ATTEMPTS} structures with {VALUE_ATTEMPTS} tries each kept every quantity in range; "
        f"widen values or constants, give a modulus, or allow subtraction."
    )


@lru_cache(maxsize=256)
def shapes_for(width: int, copies: float, composites: bool, operations: tuple[str, ...]) -> tuple[Shape, ...]:
    """The definitions that the settings allow, with their weights in the draw."""
    add, subtract, multiply = (name in operations for name in ("add", "subtract", "multiply"))
    shapes = [Shape(0, True, 2.0)]
    if copies > 0:
        shapes.append(Shape(1, False, 3.0 * copies))
    if copies < 1 and operations:
        shapes.append(Shape(1, True, 3.0 * (1 - copies)))
    for parents in range(2, width + 1):
        if add or (subtract and parents == 2):
            shapes.append(Shape(parents, False, 3.0 if parents == 2 else 1.0))
        if composites and (add or multiply):
            shapes.append(Shape(parents, True, 1.0 if parents == 2 else 0.3))
    return tuple(shapes)


@lru_cache(maxsize=256)
def can_spend(shapes: tuple[Shape, ...]) -> tuple[tuple[bool, ...], ...]:
    """Table [open quantities][operands]: whether so many operands can define exactly so many open quantities."""
    table = [[False] * (MOST_OP + 1) for _ in range(MOST_OP + 2)]
    table[0][0] = True
    for operands in range(1, MOST_OP + 1):  # every definition spends at least one operand, so smaller rows are done
        for num_open in range(1, operands + 1):
            table[num_open][operands] = any(
                table[num_open - 1 + shape.parents][operands - shape.op]
                for shape in shapes
                if shape.op <= operands and num_open - 1 + shape.parents <= MOST_OP
            )
    return tuple(tuple(row) for row in table)


def _draw_structure(spec: ProblemSpec, rng: random.Random) -> list[Draft]:
    """Drafts of the needed quantities, the asked one first; a parent always stands after its child."""
    shapes = shapes_for(spec.width, spec.copies, spec.composites, spec.operations)
    spendable = can_spend(shapes)
    left = spec.op
    if not spendable[1][left]:
        raise SpecError(
            f"op={spec.op} cannot be reached with width={spec.width}, copies={spec.copies} and "
            f"operations={spec.operations}: allow copies, a greater width or more operations, or ask for another op."
        )
    drafts = [Draft([], False)]
    spare_names = spec.places * spec.items - spec.most_quantities
    most_totals = min(spec.places // 2, spare_names // spec.items)  # a total may leave names of its place unused
    num_totals = 0
    current = 0
    while current < len(drafts):
        waiting = range(current + 1, len(drafts))
        shape, num_new = _draw_shape(shapes, spendable, left, len(waiting), spec.reuse, rng)
        draft = drafts[current]
        draft.constant = shape.constant
        draft.parents = rng.sample(waiting, shape.parents - num_new)
        draft.parents += range(len(drafts), len(drafts) + num_new)
        draft.is_total = (
            shape.parents >= 2
            and not shape.constant
            and num_new == shape.parents
            and shape.parents <= spec.items
            and draft.place_of is None
            and num_totals < most_totals
            and "add" in spec.operations
            and rng.random() < spec.implicit_totals
        )
        num_totals += draft.is_total
        drafts += [Draft([], False, place_of=current if draft.is_total else None) for _ in range(num_new)]
        rng.shuffle(draft.parents)
        left -= shape.op
        current += 1
    return drafts


def _draw_shape(
    shapes: tuple[Shape, ...],
    spendable: tuple[tuple[bool, ...], ...],
    left: int,
    num_waiting: int,
    reuse: float,
    rng: random.Random,
) -> tuple[Shape, int]:
    """A definition after which the rest can still be spent exactly, and how many of its parents are new."""
    choices = []
    for shape in shapes:
        if shape.op > left:
            continue
        num_reused = sum(rng.random() < reuse for _ in range(min(shape.parents, num_waiting))) if reuse else 0
        for num_new in (shape.parents - num_reused, shape.parents):
            if num_waiting + num_new <= MOST_OP and spendable[num_waiting + num_new][left - shape.op]:
                choices.append((shape, num_new))
                break
    return rng.choices(choices, [shape.weight for shape, _ in choices])[0]


def _draw_names(drafts: list[Draft], spec: ProblemSpec, rng: random.Random) -> list[Quantity]:
    """A place and an item for every draft; a total has its place to itself and its kinds."""
    places = rng.sample(range(spec.places), spec.places)
    place_of_total = {number: places.pop() for number, draft in enumerate(drafts) if draft.is_total}
    num_places = max(1, min(len(places), spec.most_quantities // 4 + 1))
    free = [(place, item) for place in places[:num_places] for item in range(spec.items)]
    if spec.most_quantities > len(free):
        free = [(place, item) for place in places for item in range(spec.items)]
    rng.shuffle(free)
    items = {place: rng.sample(range(spec.items), spec.items) for place in place_of_total.values()}
    names = []
    for number, draft in enumerate(drafts):
        if draft.is_total:
            names.append(Quantity(place_of_total[number], None))
        elif draft.place_of is not None:
            place = place_of_total[draft.place_of]
            names.append(Quantity(place, items[place].pop()))
        else:
            names.append(Quantity(*free.pop()))
    return names


def _draw_numbers(
    drafts: list[Draft], names: list[Quantity], spec: ProblemSpec, rng: random.Random
) -> list[Node] | None:
    """Nodes from the leaves up with every value in range, or None if these constants allow none."""
    nodes: list[Node] = []
    values: dict[Quantity, int] = {}
    for number in reversed(range(len(drafts))):
        draft = drafts[number]
        node = _draw_definition(names[number], [names[parent] for parent in draft.parents], draft, values, spec, rng)
        if node is None:
            return None
        nodes.append(node)
        values[node.name] = node.value(values, spec.modulus)
    return nodes


def _draw_definition(
    name: Quantity,
    parents: list[Quantity],
    draft: Draft,
    values: dict[Quantity, int],
    spec: ProblemSpec,
    rng: random.Random,
) -> Node | None:
    """One quantity's operation and constant, with its value in range, or None if there is none."""
    if draft.is_total:
        return _in_range([Node(name, Operation.TOTAL, None, tuple(parents))], values, spec, rng)
    if not draft.constant:
        return _in_range(_without_constant(name, parents, spec), values, spec, rng)
    if not parents:
        return Node(name, Operation.CONSTANT, rng.randint(*spec.constants))
    low, high = spec.constants
    known = sum(values[parent] for parent in parents)
    least, greatest = (0, 10**9) if spec.modulus else spec.values
    ranges: list[tuple[Operation, int, int]] = []
    if "add" in spec.operations:
        ranges.append((Operation.PLUS, max(low, least - known), min(high, greatest - known)))
    if "subtract" in spec.operations and len(parents) == 1:
        ranges.append((Operation.MINUS, max(low, known - greatest), high if spec.modulus else min(high, known - least)))
    if "multiply" in spec.operations:
        most = min(high, spec.modulus - 1) if spec.modulus else min(4, greatest // known if known else 4)
        ranges.append((Operation.TIMES, max(2, low) if spec.modulus else 2, most))
    ranges = [(operation, first, last) for operation, first, last in ranges if first <= last]
    if not ranges:
        return None
    operation, first, last = rng.choice(ranges)
    return _in_range([Node(name, operation, rng.randint(first, last), tuple(parents))], values, spec, rng)


def _without_constant(name: Quantity, parents: list[Quantity], spec: ProblemSpec) -> list[Node]:
    """The definitions that these parents alone can give."""
    if len(parents) == 1:
        return [Node(name, Operation.COPY, None, tuple(parents))]
    nodes = []
    if "add" in spec.operations:
        nodes.append(Node(name, Operation.SUM, None, tuple(parents)))
    if "subtract" in spec.operations and len(parents) == 2:
        first, second = parents
        nodes += [
            Node(name, Operation.DIFFERENCE, None, (first, second)),
            Node(name, Operation.DIFFERENCE, None, (second, first)),
        ]
    return nodes


def _in_range(nodes: list[Node], values: dict[Quantity, int], spec: ProblemSpec, rng: random.Random) -> Node | None:
    """One of the nodes whose value is in range; sums and differences are equally likely where both are."""
    if spec.modulus is None:
        least, greatest = spec.values
        nodes = [node for node in nodes if least <= node.value(values) <= greatest]
    if not nodes:
        return None
    operation = rng.choice(sorted({node.operation for node in nodes}))
    return rng.choice([node for node in nodes if node.operation is operation])


def _with_distractors(nodes: list[Node], spec: ProblemSpec, rng: random.Random) -> tuple[Node, ...]:
    """The needed nodes and, mixed in after their parents, quantities that the answer does not depend on."""
    num_distractors = _draw_num_distractors(nodes, spec, rng)
    if not num_distractors:
        return tuple(nodes)
    taken = {node.name for node in nodes}
    closed = {node.name.place for node in nodes if node.operation is Operation.TOTAL}
    used = sorted({name.place for name in taken} - closed)
    open_places = used + [place for place in range(spec.places) if place not in closed and place not in used]
    num_places = max(len(used), -(-(len(taken) + num_distractors) // spec.items) + 1)
    free = [Quantity(place, item) for place in open_places[: num_places + 1] for item in range(spec.items)]
    free = [name for name in free if name not in taken]
    if len(free) < num_distractors:
        free = [
            name for place in open_places for item in range(spec.items) if (name := Quantity(place, item)) not in taken
        ]
    values: dict[Quantity, int] = {}
    for node in nodes:
        values[node.name] = node.value(values, spec.modulus)
    mixed = list(nodes)
    unused: set[Quantity] = set()
    for name in rng.sample(free, num_distractors):
        position = rng.randint(0, len(mixed))
        before = [node.name for node in mixed[:position]]
        if spec.distractor_parents == "distractors":
            before = [quantity for quantity in before if quantity in unused]
        node = _draw_distractor(name, before, values, spec, rng)
        unused.difference_update(node.parents)
        unused.add(name)
        values[name] = node.value(values, spec.modulus)
        mixed.insert(position, node)
    return tuple(mixed)


def _draw_num_distractors(nodes: list[Node], spec: ProblemSpec, rng: random.Random) -> int:
    if spec.facts is None:
        return rng.randint(*spec.num_distractors)
    num_stated = sum(node.operation is not Operation.TOTAL for node in nodes)
    return max(0, rng.randint(*spec.facts) - num_stated)


def _draw_distractor(
    name: Quantity, before: list[Quantity], values: dict[Quantity, int], spec: ProblemSpec, rng: random.Random
) -> Node:
    """A definition of the same kinds as the needed ones, from quantities that stand before it."""
    shapes = [
        shape
        for shape in shapes_for(spec.width, spec.copies, spec.composites, spec.operations)
        if shape.parents <= len(before)
    ]
    shape = rng.choices(shapes, [shape.weight for shape in shapes])[0]
    parents = rng.sample(before, shape.parents)
    node = _draw_definition(name, parents, Draft([], shape.constant), values, spec, rng)
    return node if node is not None else Node(name, Operation.CONSTANT, rng.randint(*spec.constants))
