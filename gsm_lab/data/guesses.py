"""How far guessing goes: the best constant answer, and the best answer from the surface of a text.

Nobody who guesses follows a definition to another one. A clue is a number that is there to be seen or counted: the
last number of the text, how many facts there are, the number beside the asked quantity. A guess is a clue as it is, or
whatever answer is most frequent with that clue. The guess is chosen on one half of the problems and measured on the
other; the halves share no problem, for identities divide them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from gsm_lab.problems import Exercise

LEVEL = 0.95
MOST_EXERCISES = 2_000
"""So many of every op and mode are looked at; half of them measure, so that an interval is 4 % wide at most."""
_NUMBERS = re.compile(r"(?<![A-Za-z0-9_])\d+")
"""Numbers of a text; digits within a name, as in q3_7, are none."""
Clues = Mapping[str, int]
Guess = Callable[[Clues], int]


def clues_of(exercise: Exercise) -> dict[str, int]:
    """Every clue that the exercise has, by what it is."""
    numbers = list(map(int, _NUMBERS.findall(exercise.prompt)))
    clues = {"number of facts": len(exercise.sentences), "number of numbers": len(numbers)}
    if numbers:
        counts = Counter(numbers)
        clues |= {
            "first number": numbers[0],
            "last number": numbers[-1],
            "least number": min(numbers),
            "greatest number": max(numbers),
            "middle number": sorted(numbers)[len(numbers) // 2],
            "most frequent number": max(numbers, key=lambda number: counts[number]),
            "greatest minus least number": max(numbers) - min(numbers),
            "sum of all numbers": sum(numbers),
            "sum of the two greatest numbers": sum(sorted(numbers)[-2:]),
            "product of the two greatest numbers": math.prod(sorted(numbers)[-2:]),
            "product of the two last numbers": math.prod(numbers[-2:]),
        }
    clues |= _clues_beside_asked(exercise)
    given = exercise.problem.given
    if given is not None:
        clues |= _clues_beside_given(exercise, given, numbers)
    modulus = exercise.problem.modulus
    if modulus is not None:
        clues = {name: clue % modulus for name, clue in clues.items()} | {"modulus": modulus}
    return clues


def _clues_beside_asked(exercise: Exercise) -> dict[str, int]:
    """Numbers in the facts that mention the asked quantity, and how many those are."""
    nodes, asked = exercise.problem.graph.nodes, exercise.problem.query
    clues: dict[str, int] = {}
    own = nodes[asked]
    clues["number of quantities that the asked one is computed from"] = len(own.parents)
    if exercise.problem.given is None and own.constant is not None:
        clues["number in the fact about the asked quantity"] = own.constant
    users = [place for place in exercise.sentences if asked in nodes[place].parents]
    clues["number of facts that use the asked quantity"] = len(users)
    beside = [constant for place in users if (constant := nodes[place].constant) is not None]
    if beside:
        clues["number in the first fact that uses the asked quantity"] = beside[0]
    return clues


def _clues_beside_given(exercise: Exercise, given: int, numbers: Sequence[int]) -> dict[str, int]:
    """What the told value of a reverse problem suggests at first sight."""
    node, value = exercise.problem.graph.nodes[given], exercise.problem.values[given]
    greatest = max((number for number in numbers if number != value), default=1)
    clues = {
        "told value": value,
        "told value without all other numbers": value - (sum(numbers) - value),
        "told value by the greatest other number": value // greatest if greatest else value,
    }
    if node.constant is not None:
        clues |= {
            "number in the definition of the told quantity": node.constant,
            "told value without the number in its definition": value - node.constant,
            "told value by the number in its definition": value // node.constant if node.constant else value,
        }
    return clues


def best_guesses(exercises: Iterable[Exercise]) -> list[dict[str, Any]]:
    """For every op and mode, the best constant and the best surface guess, with the share that each gets right.

    Shares have a 95 % Wilson interval; they are None where one half has no problem.
    """
    groups: dict[tuple[int, str], list[Exercise]] = {}
    for exercise in exercises:
        group = groups.setdefault((exercise.op, exercise.problem.mode), [])
        if len(group) < MOST_EXERCISES:
            group.append(exercise)
    return [{"op": op, "mode": mode, **_measured(group)} for (op, mode), group in sorted(groups.items())]


def _measured(exercises: Sequence[Exercise]) -> dict[str, Any]:
    """Four quarters by identity: guesses learn on the first, are chosen on the second, and learn on both."""
    quarters: list[list[tuple[Clues, int]]] = [[], [], [], []]
    for exercise in exercises:
        quarters[int(exercise.problem_id[-1], 16) % 4].append((clues_of(exercise), exercise.answer))
    first, second, *others = quarters
    learning, measuring = first + second, others[0] + others[1]
    result: dict[str, Any] = {"chosen_on": len(learning), "measured_on": len(measuring)}
    if not first or not second or not measuring:
        return result | {"constant": None, "surface": None}
    constant = _most_frequent(answer for _, answer in learning)
    names = sorted({name for clues, _ in learning for name in clues})
    candidates = [(name, is_plain) for name in names for is_plain in (True, False)]
    chosen = max(candidates, key=lambda candidate: _num_right(_guess(first, *candidate), second))
    name, is_plain = chosen
    surface = _guess(learning, name, is_plain)
    text = f"the {name}" if is_plain else f"the answer that is most frequent with that {name}"
    return result | {
        "constant": {"guess": constant, **_share(sum(answer == constant for _, answer in measuring), len(measuring))},
        "surface": {"guess": text, **_share(_num_right(surface, measuring), len(measuring))},
    }


def _guess(learning: Sequence[tuple[Clues, int]], name: str, is_plain: bool) -> Guess:
    """The guess from one clue; where the clue is missing or new, the most frequent answer."""
    constant = _most_frequent(answer for _, answer in learning)
    if is_plain:
        return lambda clues: clues.get(name, constant)
    answers: dict[int, list[int]] = {}
    for clues, answer in learning:
        if name in clues:
            answers.setdefault(clues[name], []).append(answer)
    table = {clue: _most_frequent(known) for clue, known in answers.items()}
    return lambda clues: table.get(clues[name], constant) if name in clues else constant


def _num_right(guess: Guess, rows: Iterable[tuple[Clues, int]]) -> int:
    return sum(guess(clues) == answer for clues, answer in rows)


def _most_frequent(answers: Iterable[int]) -> int:
    """The most frequent answer; of several the least."""
    counts = Counter(answers)
    return min(counts, key=lambda answer: (-counts[answer], answer))


def _share(right: int, trials: int) -> dict[str, float]:
    low, high = wilson(right, trials)
    return {"share": right / trials, "low": low, "high": high}


def wilson(right: int, trials: int) -> tuple[float, float]:
    """The bounds of the share `right / trials`, 95 %. Source: Wilson 1927."""
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    share = right / trials
    scale = 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / scale
    spread = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / scale
    return (0.0 if not right else centre - spread), (1.0 if right == trials else centre + spread)
