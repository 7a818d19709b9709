"""Adds quantities that the answer does not depend on, each with a definition and a value in range like the others."""

from collections.abc import Callable, Sequence
from random import Random

from gsm_lab.errors import SpecError
from gsm_lab.problems.budget import Shape, shapes_for
from gsm_lab.problems.graph import IMPLICIT, Node, Operation, Quantity, counts_of
from gsm_lab.problems.making import new_tuple
from gsm_lab.problems.numbers import Drawn, Rules, define
from gsm_lab.problems.spec import ProblemSpec

ATTEMPTS = 8
"""Definitions tried for a distractor before it becomes a copy, or a constant where there are no copies."""
_CONSTANT_WEIGHT = 2.0
"""How often an independent distractor is a constant, beside the weights of other definitions."""


def num_distractors(spec: ProblemSpec, needed: Sequence[Node], rng: Random) -> int:
    """How many distractors a problem with these needed quantities gets."""
    if spec.facts is None:
        low, high = spec.num_distractors
        return low + int(rng.random() * (high - low + 1))
    low, high = spec.num_facts
    num_stated = sum([node.operation not in IMPLICIT for node in needed])
    num_stated += spec.mode == "reverse" and len(needed) > 1  # the given value has a sentence of its own
    return max(0, low + int(rng.random() * (high - low + 1)) - num_stated)


def add_distractors(
    nodes: list[Node], values: list[int], num: int, places: Sequence[int], spec: ProblemSpec, rules: Rules, rng: Random
) -> None:
    """Append `num` distractors to the needed quantities, the last of which is the problem's top, and to their values.

    `places` are those that no total is about; the first ones are used first.
    """
    random = rng.random
    names = _Names(nodes, places, spec, num, random)
    num_needed = len(nodes)
    rooted = list(range(num_needed))  # what reachable distractors are computed from
    alone: list[int] = []  # independent distractors that nothing uses yet
    kinds = spec.distractor_kinds
    shapes = shapes_for(spec)
    for number in range(num_needed, num_needed + num):
        kind = kinds[int(random() * len(kinds))]
        is_independent = kind == "independent"
        sources = alone if is_independent else rooted
        num_sources = num_needed if kind == "dead_end" else len(sources)
        drawn: Drawn | None = None
        for _ in range(ATTEMPTS if num_sources else 0):
            num_parents, has_constant = _shape(shapes, is_independent, num_sources, random)
            if not num_parents:
                break
            parents = _sample(sources, num_sources, num_parents, random)
            drawn = define(parents, has_constant, rules.greatest, values, None, rules, random)
            if drawn is not None:
                break
        if drawn is None and not is_independent and spec.copies:  # a copy is always in range
            parent = sources[int(random() * num_sources)]
            drawn = Operation.COPY, None, (parent,), 0, values[parent], 0
        if drawn is None:
            number_told = rules.first + int(random() * (rules.last - rules.first + 1))
            drawn = Operation.CONSTANT, number_told, (), 0, number_told, 0
        operation, constant, chosen, minus, value, _ = drawn
        if is_independent:
            for parent in chosen:
                alone.remove(parent)
            alone.append(number)
        elif kind == "reachable":
            rooted.append(number)
        nodes.append(new_tuple(Node, (names.take(kind), operation, constant, chosen, minus)))
        values.append(value)


def _shape(shapes: Sequence[Shape], may_be_constant: bool, most: int, random: Callable[[], float]) -> tuple[int, bool]:
    """The number of parents, and whether there is a constant."""
    total = _CONSTANT_WEIGHT if may_be_constant else 0.0
    for parents, _, weight in shapes:
        if parents <= most:
            total += weight
    chosen = random() * total
    for parents, constant, weight in shapes:
        if parents <= most:
            chosen -= weight
            if chosen < 0:
                return parents, constant
    return 0, True


def _sample(sources: Sequence[int], most: int, num: int, random: Callable[[], float]) -> list[int]:
    """`num` different ones of the first `most` sources."""
    first = sources[int(random() * most)]
    if num == 1:
        return [first]
    chosen = {first: None}
    while len(chosen) < num:
        chosen[sources[int(random() * most)]] = None
    return list(chosen)


class _Names:
    """Free names: near what the problem speaks of, and for dead ends alike to what is asked for."""

    def __init__(
        self, needed: Sequence[Node], places: Sequence[int], spec: ProblemSpec, num: int, random: Callable[[], float]
    ) -> None:
        self.random = random
        self.spec = spec
        self.items = items = spec.items
        self.counts = counts_of(items)
        self.taken = {node[0] for node in needed}
        size = len(needed) + num
        self.all_places = places
        self.num_places = min(len(places), -(-size * 3 // (2 * items)) + 1)
        """The places that are used first."""
        self.averages = 0.5 if size * 3 > 2 * len(places) * items else 0.0
        """How many names are those of averages: counts have names enough, but for very long texts."""
        top = needed[-1]
        place, item, _ = top[0]
        self.asked_place = place
        items_of_top = [item] if item is not None else [needed[parent][0][1] for parent in top[3]]
        self.asked_items = [one for one in items_of_top if one is not None]

    def take(self, kind: str) -> Quantity:
        """A name that nothing has; one of several kinds may get another name where no fitting one is free.

        Raises:
            SpecError: there is but one kind, and no name for it.
        """
        random, taken = self.random, self.taken
        if kind == "independent":
            name = self._any()
        else:
            is_dead_end = kind == "dead_end"
            for _ in range(6):
                name = self._guess()
                if is_dead_end and name[1] not in self.asked_items:
                    name = self._name(name[0], self.asked_items[int(random() * len(self.asked_items))], name[2])
                if name not in taken and self._is_alike(name) == is_dead_end:
                    break
            else:
                suited = self._suited(is_dead_end)
                if suited is None and len(self.spec.distractor_kinds) == 1:
                    raise SpecError(
                        f"distractor_kinds={self.spec.distractor_kinds} and distractors={self.spec.num_distractors} "
                        f"contradict each other: no name is left that is {'' if is_dead_end else 'not '}alike to the "
                        f"asked quantity's; raise places or items, ask for fewer, or allow other kinds."
                    )
                name = suited or self._any()
        taken.add(name)
        return name

    def _suited(self, is_alike: bool) -> Quantity | None:
        """Any free name that is alike to what is asked for, or is not."""
        names = [self._name(place, item) for place in self.all_places for item in range(self.items)]
        names = [name for name in names if self._is_alike(name) == is_alike and name not in self.taken]
        return names[int(self.random() * len(names))] if names else None

    def _any(self) -> Quantity:
        """Any free name: a guess, or the next free one after it."""
        for _ in range(8):
            name = self._guess()
            if name not in self.taken:
                return name
        place, item, each = name
        at = self.all_places.index(place)
        assert item is not None
        while name in self.taken:
            item += 1
            if item == self.items:
                item, at = 0, at + 1
            if at == len(self.all_places):
                at, each = 0, not each and self.averages > 0
            name = self._name(self.all_places[at], item, each)
        return name

    def _guess(self) -> Quantity:
        place = self.all_places[int(self.random() * self.num_places)]
        item = int(self.random() * self.items)
        return self._name(place, item, self.averages > 0 and self.random() < self.averages)

    def _name(self, place: int, item: int, each: bool = False) -> Quantity:
        return Quantity(place, item, True) if each else self.counts[place * self.items + item]

    def _is_alike(self, name: Quantity) -> bool:
        return name[0] == self.asked_place or name[1] in self.asked_items
