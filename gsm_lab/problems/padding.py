"""Long texts: a problem with as many distractors as fill a wanted number of tokens."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from gsm_lab.errors import SpecError
from gsm_lab.problems.draw import draw_problem
from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.graph import DependencyGraph
from gsm_lab.problems.problem import Problem
from gsm_lab.problems.render import PLAIN, render
from gsm_lab.problems.spec import MOST_DISTRACTORS, ProblemSpec
from gsm_lab.problems.style import Style
from gsm_lab.problems.template import Template

TOLERANCE = 0.02
_PROBE = 64
_STEP = 64
"""Distractors are drawn in multiples of this, so that few different specs occur."""


def padded_problem(
    spec: ProblemSpec,
    template: Template,
    tokens: int,
    count: Callable[[str], int],
    rng: Random,
    style: Style = PLAIN,
) -> Exercise:
    """An exercise of `spec` whose prompt and completion have at most `tokens` tokens, and at least 98 % of that.

    `spec.distractors` and `spec.facts` do not count; `count` says how many tokens a text has. `template` must have all
    the places that many distractors need: do not limit it.

    Raises:
        SpecError: the problem alone is longer, or no number of distractors fills so many tokens.
    """
    num = _PROBE
    while True:
        filled = replace(spec, facts=None, distractors=num)
        limited = template.limited(min(filled.num_places, len(template.places)), filled.items)
        try:
            problem = draw_problem(filled, rng)
        except SpecError as error:
            raise SpecError(f"tokens={tokens}: a text cannot be filled with {num} distractors: {error}") from error
        long = _Long(problem, limited, count, rng, style)
        size = long.first(num)[1]
        if size >= tokens:
            return _fitted(tokens, num, size, long)
        if num == MOST_DISTRACTORS:
            raise SpecError(
                f"tokens={tokens}: {num} distractors make {size} tokens only; ask for fewer, or use longer frames."
            )
        shortest = long.first(0)[1]
        wanted = int((tokens - shortest) / max(1.0, (size - shortest) / num) * 1.1) + _STEP
        num = min(MOST_DISTRACTORS, max(2 * num, wanted // _STEP * _STEP))


class _Long:
    """A problem with many distractors, told with the first so many of them: later ones can be left out."""

    def __init__(
        self, problem: Problem, template: Template, count: Callable[[str], int], rng: Random, style: Style
    ) -> None:
        self.problem, self.template, self.count, self.rng, self.style = problem, template, count, rng, style
        self._state = rng.getstate()

    def first(self, kept: int) -> tuple[Exercise, int]:
        """The exercise with `kept` distractors, always in the same words, and its tokens."""
        self.rng.setstate(self._state)
        problem = self.problem
        nodes = problem.graph.nodes[: len(problem.needed) + kept]
        cut = Problem(DependencyGraph(nodes), problem.query, problem.modulus, problem.given)
        exercise = render(cut, self.template, self.rng, self.style)
        return exercise, self.count(exercise.prompt + exercise.completion)


def _fitted(tokens: int, num: int, size: int, long: _Long) -> Exercise:
    """The exercise with the most distractors that is not too long; `num` of them are too many or just enough."""
    exercise, least = long.first(0)
    if least > tokens:
        raise SpecError(f"tokens={tokens}: the problem alone has {least}; ask for more tokens, or a lower op.")
    low, high = (0, least), (num, size)
    while high[0] - low[0] > 1 and low[1] < tokens * (1 - TOLERANCE / 4):
        share = (tokens - low[1]) / (high[1] - low[1])
        middle = min(high[0] - 1, max(low[0] + 1, int(low[0] + share * (high[0] - low[0]))))
        tried, length = long.first(middle)
        if length <= tokens:
            exercise, low = tried, (middle, length)
        else:
            high = (middle, length)
    if low[1] < tokens * (1 - TOLERANCE):
        raise SpecError(
            f"tokens={tokens}: with {low[0]} distractors there are {low[1]} and with one more {high[1]}; ask for more."
        )
    return exercise
