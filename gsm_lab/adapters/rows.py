"""Exercises as rows that any framework can hold, and exercises without end for those that draw their own."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gsm_lab.adapters.scoring import exercise_of
from gsm_lab.errors import DataError
from gsm_lab.files import write_text
from gsm_lab.problems import Exercise, ProblemSpec, Style, draw_problem, load_template, render
from gsm_lab.seeds import stream


def exercise_text(exercise: Exercise) -> str:
    """All of an exercise as one line of JSON; `exercise_of` reads it back."""
    return json.dumps(exercise.to_dict(), ensure_ascii=False)


def row_of(exercise: Exercise, messages: bool = False) -> dict[str, Any]:
    """Prompt, gold completion and what is known of an exercise; "exercise" is all of it as a JSON string.

    With `messages` prompt and completion are lists of one message, as models that talk want them.
    """
    prompt, completion = exercise.prompt, exercise.completion
    return {
        "prompt": [{"role": "user", "content": prompt}] if messages else prompt,
        "completion": [{"role": "assistant", "content": completion.strip()}] if messages else completion,
        "exercise": exercise_text(exercise),
        "problem_id": exercise.problem_id,
        "answer": str(exercise.answer),
        "op": exercise.op,
        "mode": exercise.problem.mode,
        "context": exercise.context,
        "frames": exercise.frames,
    }


def write_rows(path: Path, exercises: Iterable[Exercise]) -> None:
    """Write `row_of` every exercise as JSON Lines.

    Raises:
        StorageError: the file could not be written.
    """
    write_text(path, "".join(json.dumps(row_of(exercise), ensure_ascii=False) + "\n" for exercise in exercises))


def read_rows(path: Path) -> Iterator[Exercise]:
    """The exercises that `write_rows` wrote.

    Raises:
        DataError: a line is no such row.
    """
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text = json.loads(line)["exercise"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"line {number} of {path} is no row of an exercise ({error!r}): write the file with write_rows."
                ) from error
            yield exercise_of(text)


def drawn_exercise(
    index: int,
    *,
    seed: int,
    ops: tuple[int, int] = (2, 10),
    context: str = "zoo",
    frames: str = "english",
    style: Style | None = None,
    **settings: Any,
) -> Exercise:
    """Exercise `index` of a seed, a pure function of its arguments; `settings` are those of `ProblemSpec`.

    All values of op from the first to the second of `ops` are equally likely. Nothing keeps these problems apart from
    those of a test set: where that matters, `gsm-lab generate` a data set with splits and give its rows.

    Raises:
        SpecError: the settings contradict each other.
        TemplateError: there is no such context or no such frames.
    """
    rng = stream(seed, "adapters", index)
    spec = ProblemSpec(op=rng.randint(*ops), **settings)
    template = load_template(context, frames).limited(spec.num_places, spec.items)
    return render(draw_problem(spec, rng), template, rng, style or Style())
