"""Data sets: written, and looked into."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsm_lab.cli.progress import bar, progress
from gsm_lab.cli.values import ops_of, part_of, settings_of, shares_of, sizes_of, whole

if TYPE_CHECKING:
    from gsm_lab.data import Progress as WritingProgress
    from gsm_lab.data import Slice
    from gsm_lab.study import OnProgress


def generate(
    folder: Annotated[Path, typer.Argument(help="Where the data set goes: shards, manifest, card.")],
    ops: Annotated[str, typer.Option(help="Ops and their shares: 2-10, or 2-4=0.2,5-10=0.8.")] = "2-10",
    modes: Annotated[str, typer.Option(help="forward, reverse, or both with shares.")] = "forward",
    contexts: Annotated[str, typer.Option(help="Contexts and their shares: zoo, or zoo=0.9,school=0.1.")] = "zoo",
    frames: Annotated[str, typer.Option(help="Frames and their shares: english, chinese, my.toml.")] = "english",
    num_problems: Annotated[int | None, typer.Option(help="Problems in all; 10,000 if not said.")] = None,
    split: Annotated[
        str, typer.Option(help="pretrain, midtrain, rl, validation, test; or several with sizes: rl=9000,test=1000.")
    ] = "pretrain",
    split_by: Annotated[
        str, typer.Option(help="What decides the split of a problem: structure_id, numbers_id or problem_id.")
    ] = "problem_id",
    unit: Annotated[str, typer.Option(help="What shares are counted in: problems or tokens.")] = "problems",
    seed: Annotated[int, typer.Option(help="Names the random streams.")] = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any other setting of ProblemSpec or Style: depth=3-5, answers=1-50, checks=0.2 ..."
        ),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Pad every text to so many tokens.")] = None,
    only_tokens: Annotated[bool, typer.Option("--only-tokens", help="Write token arrays (uint16), no text.")] = False,
    shard_size: Annotated[int, typer.Option(help="Problems in one file.")] = 5_000,
    workers: Annotated[int, typer.Option(help="Processes; the bytes do not depend on it.")] = 1,
    executor: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    shard: Annotated[str | None, typer.Option(help="Write part i of N, i/N with i from 0: for N machines.")] = None,
) -> None:
    """Write a data set: shards, a manifest with checksums, a card."""
    from gsm_lab.data import ExerciseSource, Mixture, Tokenizer, template_of, write_dataset, write_tokens

    sizes = sizes_of(split, num_problems)
    if only_tokens and len(sizes) > 1:
        raise typer.BadParameter(f"split: token arrays hold one split, not {split}.")
    mixture = Mixture(_slices(ops, modes, contexts, frames, setting or [], tokens), unit)  # type: ignore[arg-type]
    tokenizer = Tokenizer.for_templates(dict.fromkeys(map(template_of, mixture.slices)))
    sources = [ExerciseSource(mixture, name, seed, tokenizer, split_by) for name in sizes]
    part = None if shard is None else part_of(shard)
    if only_tokens:
        with bar("generate") as advance:
            written = write_tokens(
                folder, sources[0], tokenizer, *sizes.values(), shard_size=shard_size, workers=workers,
                executor=executor, part=part, on_shard=advance,
            )  # fmt: skip
    else:
        with progress() as on_progress:
            written = write_dataset(
                folder, sources, list(sizes.values()), shard_size, tokenizer, workers, _dataset_line(on_progress),
                executor=executor, part=part,
            )  # fmt: skip
    print(written)


def _dataset_line(on_progress: "OnProgress") -> Callable[["WritingProgress"], None]:
    """Tells a progress line how far the writing of a data set is."""

    def tell(progress: "WritingProgress") -> None:
        figures: dict[str, Any] = {
            "problems_per_second": round(progress.problems_per_second),
            "seconds_left": round(progress.seconds_left),
        }
        if progress.tokens_per_second is not None:
            figures["tokens_per_second"] = progress.tokens_per_second
        on_progress("generate", progress.problems, progress.all_problems, figures)

    return tell


def _slices(
    ops: str, modes: str, contexts: str, frames: str, settings: list[str], tokens: int | None
) -> "tuple[Slice, ...]":
    """Every op in every mode, context and frames, by the product of their shares."""
    from itertools import product

    from gsm_lab.data import Slice
    from gsm_lab.problems import ProblemSpec, Style

    of_spec, of_style = settings_of(settings, {"op": "--ops", "mode": "--modes"})
    style = Style(**of_style)
    shares = [
        shares_of(ops, "ops", ops_of), shares_of(modes, "modes"), shares_of(contexts, "contexts"),
        shares_of(frames, "frames"),
    ]  # fmt: skip
    modulus = of_spec.get("modulus")
    if modulus is not None and "constants" not in of_spec:
        of_spec["constants"] = (1, max(1, min(9, modulus - 1)))
    slices = []
    for (op, op_share), (mode, mode_share), (context, context_share), (words, words_share) in product(
        *(share.items() for share in shares)
    ):
        own: dict[str, Any] = {"op": whole(op, "ops"), "mode": mode} | of_spec
        spec = ProblemSpec(**own)
        slices.append(
            Slice(spec, context, words, op_share * mode_share * context_share * words_share, style, tokens=tokens)
        )
    return tuple(slices)


def inspect(
    folder: Annotated[Path, typer.Argument(help="A data set that `gsm-lab generate` wrote, or a GSM-Infinite file.")],
    show: Annotated[int, typer.Option(help="How many problems to print.")] = 2,
) -> None:
    """Show problems, graphs, solutions and sizes of a data set."""
    if folder.is_file():
        _inspect_gsm_infinite(folder, show)
        return
    from collections import Counter
    from itertools import islice

    from gsm_lab.data import read_dataset
    from gsm_lab.problems import grade

    sizes: dict[str, Counter[int]] = {}
    total = distinct = 0
    seen: set[str] = set()
    for exercise in read_dataset(folder):
        if total < show:
            _print_exercise(exercise)
        total += 1
        seen.add(exercise.problem_id)
        for name, value in exercise.sizes().items():
            sizes.setdefault(name, Counter())[value] += 1
    distinct = len(seen)
    print(f"{total} problems, {distinct} distinct; all shards agree with the manifest")
    for name, counts in sizes.items():
        row = "  ".join(f"{value}:{count}" for value, count in sorted(counts.items()))
        print(f"{name:>12}  {row}")
    gold = all(grade(exercise, exercise.completion).verified for exercise in islice(read_dataset(folder), 200))
    print(f"gold solutions of the first {min(total, 200)} verified: {'yes' if gold else 'NO'}")
    if not gold:
        raise typer.Exit(1)


def _inspect_gsm_infinite(path: Path, show: int) -> None:
    """What a file of GSM-Infinite holds, solved from its texts; why, where that cannot be done."""
    from collections import Counter

    from gsm_lab.problems import read_gsm_infinite

    total: Counter[str] = Counter()
    solved: Counter[str] = Counter()
    unsolvable = []
    for number, found in enumerate(read_gsm_infinite(path)):
        total[found.mode] += 1
        if number < show:
            print(f"--- {found.id}  op {found.op}  {found.mode}  {found.template}\n{found.prompt}")
        if found.problem is None:
            unsolvable.append(f"  {found.id} (op {found.op}, {found.mode}): {found.reason}")
        else:
            solved[found.mode] += found.problem.answer == found.stated_answer
    for mode, count in total.items():
        print(f"{mode}: {solved[mode]} of {count} solved from the text to the stated answer")
    print(f"cannot be solved from their text: {len(unsolvable)}")
    print(*unsolvable, sep="\n")


def _print_exercise(exercise: Any) -> None:
    problem, names = exercise.problem, exercise.names
    sizes = "  ".join(f"{name} {size}" for name, size in exercise.sizes().items())
    print(f"--- {exercise.problem_id}  {exercise.context}/{exercise.frames}  {problem.mode}  {sizes}")
    print(exercise.prompt)
    print(exercise.completion.strip())
    needed = set(problem.needed)
    for place, node in enumerate(problem.graph.nodes):
        parents = [names[parent] for parent in node.parents]
        added = len(parents) - node.minus
        terms = ", ".join([*parents[:added], *(f"minus {name}" for name in parents[added:])])
        mark = "asked " if place == problem.query else "given " if place == problem.given else "needed"
        constant = "" if node.constant is None else f" {node.constant}"
        mark = mark if place in needed else "      "
        print(f"  {mark} {names[place]} = {problem.values[place]}: {node.operation}{constant} {terms}")
