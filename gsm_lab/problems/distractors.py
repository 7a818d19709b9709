"""Adds quantities that the answer does not depend on, each with a definition and a value in range like the others."""

from collections.abc import Callable, Sequence
from random import Random

from gsm_lab.problems.budget import shapes_for
from gsm_lab.problems.graph import IMPLICIT, Node, Operation, Quantity
from gsm_lab.problems.numbers import Rules, define
from gsm_lab.problems.spec import ProblemSpec


def num_distractors(spec: ProblemSpec, needed: Sequence[Node], rng: Random) -> int:
    """How many distractors a problem with these needed quantities gets."""
    if spec.facts is None:
        low, high = spec.num_distractors
        return low + int(rng.random() * (high - low + 1))
    low, high = spec.num_facts
    num_stated = sum([node.operation not in IMPLICIT for node in needed])
    return max(0, low + int(rng.random() * (high - low + 1)) - num_stated)


def with_distractors(
    needed: list[Node], values: list[int], num: int, places: Sequence[int], spec: ProblemSpec, rules: Rules, rng: Random
) -> list[Node]:
    """The needed quantities, the last of them the problem's top, and `num` distractors behind them.

    `places` are those that no total is about; the first ones are used first.
    """
    random = rng.random
    nodes = list(needed)
    values = list(values)
    names = _Names(needed, places, spec.items, num, random)
    rooted = list(range(len(needed)))  # what reachable distractors are computed from
    alone: list[int] = []  # independent distractors that nothing uses yet
    shapes = [(0, True, 2.0), *shapes_for(spec)]
    for _ in range(num):
        kind = spec.distractor_kinds[int(random() * len(spec.distractor_kinds))]
        sources = alone if kind == "independent" else range(len(needed)) if kind == "dead_end" else rooted
        num_parents, has_constant = _shape(shapes, 0 if kind == "independent" else 1, len(sources), random)
        number = len(nodes)
        node = None
        if num_parents:
            parents = _sample(sources, num_parents, random)
            drawn = define(parents, has_constant, rules.greatest, values, None, rules, random)
            if drawn is not None:
                node = Node(names.take(kind), drawn.operation, drawn.constant, drawn.parents, drawn.minus)
                value = drawn.value
                if kind == "independent":
                    alone = [number for number in alone if number not in parents]
        if node is None and kind != "independent":  # a copy is always in range
            parents = _sample(sources, 1, random)
            node = Node(names.take(kind), Operation.COPY, None, tuple(parents))
            value = values[parents[0]]
        elif node is None:
            value = rules.first + int(random() * (rules.last - rules.first + 1))
            node = Node(names.take(kind), Operation.CONSTANT, value)
        if kind == "independent":
            alone.append(number)
        elif kind == "reachable":
            rooted.append(number)
        nodes.append(node)
        values.append(value)
    return nodes


def _shape(
    shapes: Sequence[tuple[int, bool, float]], fewest: int, most: int, random: Callable[[], float]
) -> tuple[int, bool]:
    """The number of parents, and whether there is a constant."""
    possible = [shape for shape in shapes if fewest <= shape[0] <= most]
    if not possible:
        return 0, True
    chosen = random() * sum([weight for _, _, weight in possible])
    for parents, constant, weight in possible:
        chosen -= weight
        if chosen < 0:
            return parents, constant
    return possible[-1][0], possible[-1][1]


def _sample(sources: Sequence[int], num: int, random: Callable[[], float]) -> list[int]:
    if num == 1:
        return [sources[int(random() * len(sources))]]
    chosen: dict[int, None] = {}
    while len(chosen) < num:
        chosen[sources[int(random() * len(sources))]] = None
    return list(chosen)


class _Names:
    """Free names: near what the problem speaks of, and for dead ends alike to what is asked for."""

    def __init__(
        self, needed: Sequence[Node], places: Sequence[int], items: int, num: int, random: Callable[[], float]
    ) -> None:
        self.random = random
        self.items = items
        self.taken = {node.name for node in needed}
        num_places = min(len(places), -(-(len(needed) + num) * 3 // (2 * items)) + 1)
        self.all_places = places
        self.averages = 0.5 if (len(needed) + num) * 3 > 2 * len(places) * items else 0.0
        """How many names are those of averages: counts have names enough, but for very long texts."""
        self.places = list(places[:num_places])
        top = needed[-1]
        self.asked_place = top.name.place
        if top.name.item is None:
            self.asked_items = {item for parent in top.parents if (item := needed[parent].name.item) is not None}
        else:
            self.asked_items = {top.name.item}

    def take(self, kind: str) -> Quantity:
        """A name that nothing has; the wish for likeness is dropped where no such name is free."""
        if kind != "independent":
            for _ in range(8):
                name = self._guess(self.places)
                if name not in self.taken and self._is_alike(name) == (kind == "dead_end"):
                    self.taken.add(name)
                    return name
            suited = [
                name
                for place in self.all_places
                for item in range(self.items)
                if (name := Quantity(place, item)) not in self.taken and self._is_alike(name) == (kind == "dead_end")
            ]
            if suited:
                name = suited[int(self.random() * len(suited))]
                self.taken.add(name)
                return name
        return self._any()

    def _any(self) -> Quantity:
        name = self._guess(self.places)
        tries = 0
        while name in self.taken:
            tries += 1
            if tries < 8:
                name = self._guess(self.places)
            else:  # go through all names from there on
                place, item = name.place, name.item
                assert item is not None
                item = item + 1 if item + 1 < self.items else 0
                if item == 0:
                    place = self.places[(self.places.index(place) + 1) % len(self.places)]
                name = Quantity(place, item, name.each if item else not name.each and self.averages > 0)
        self.taken.add(name)
        return name

    def _guess(self, places: Sequence[int]) -> Quantity:
        each = self.averages > 0 and self.random() < self.averages
        return Quantity(places[int(self.random() * len(places))], int(self.random() * self.items), each)

    def _is_alike(self, name: Quantity) -> bool:
        return name.place == self.asked_place or name.item in self.asked_items
