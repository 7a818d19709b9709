"""The card of a data set: what it is, what it holds, and how to make it again, for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from gsm_lab.data.source import SPLITS, ExerciseSource

_MEANING = {
    "op": "operands over all needed quantities, a constant counted as one",
    "steps": "quantities in the shortest solution",
    "binary_ops": "two-operand calculations in it",
    "depth": "quantities in its longest chain",
    "width": "most quantities that one is computed from",
    "distractors": "quantities that the answer does not depend on",
}


def card(source: ExerciseSource, manifest: Mapping[str, Any]) -> str:
    """README.md of a data set, from its source and its manifest."""
    return "\n".join([*_head(source, manifest), *_contents(manifest), *_slices(source), *_again(source, manifest)])


def _head(source: ExerciseSource, manifest: Mapping[str, Any]) -> list[str]:
    rows = sum(shard["rows"] for shard in manifest["shards"])
    megabytes = sum(shard["bytes"] for shard in manifest["shards"]) / 1e6
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        f"  - split: {source.split}",
        "    path: shard-*.parquet",
        "---",
        "",
        f"# Word problems for the split `{source.split}`",
        "",
        f"{_count(rows, 'exercise')} in {_count(len(manifest['shards']), 'Parquet shard')} ({megabytes:.2f} MB), "
        f"{manifest['num_distinct_problems']:,} of the problems different; drawn with seed {source.seed} by gsm_lab "
        f"({manifest['settings']['gsm_lab']}). Every exercise is a dependency graph told in words, with a worked "
        f"solution of which every step can be graded.",
        "",
        f"A problem is its graph and its numbers, whatever the words; `problem_id` names it. The split owns "
        f"{SPLITS[source.split]} % of all problem ids, so it shares no problem with another split.",
    ]
    if "prompt_tokens" in manifest:
        prompts, completions = manifest["prompt_tokens"], manifest["completion_tokens"]
        lines += [
            "",
            f"With the tokenizer in `tokenizer/` that is {prompts + completions:,} tokens: {prompts:,} in prompts, "
            f"{completions:,} in completions with their ends.",
        ]
    return lines


def _contents(manifest: Mapping[str, Any]) -> list[str]:
    sizes = (
        (size, _MEANING[size], of["least"], f"{of['mean']:.2f}", of["greatest"])
        for size, of in manifest["sizes"].items()
    )
    lines = ["", "## Contents", "", *_table(("size", "what it counts", "least", "mean", "greatest"), sizes)]
    for kind, counts in manifest["problems_by"].items():
        lines += ["", *_table((kind, "exercises"), ((value, f"{count:,}") for value, count in counts))]
    return lines


def _slices(source: ExerciseSource) -> list[str]:
    header = ("op", "context", "frames", f"weight in {source.mixture.unit}", "share of problems")
    rows = (
        (piece.spec.op, f"`{piece.context}`", f"`{piece.frames}`", f"{piece.weight:g}", f"{share:.4f}")
        for piece, share in zip(source.mixture.slices, source.problem_shares, strict=True)
    )
    return ["", "## Settings", "", *_table(header, rows), "", "`manifest.json` has all settings and the checksums."]


def _again(source: ExerciseSource, manifest: Mapping[str, Any]) -> list[str]:
    settings = manifest["settings"]
    tokenizers = ""
    arguments = [f"{settings['num_problems']}", f"{settings['shard_size']}"]
    if settings["counted_with_tokenizer"] is not None:
        tokenizers = 'tokenizer = Tokenizer.load("tokenizer")  # of this folder\n'
        arguments.append("tokenizer")
    slices = [f"    {_code(piece)}," for piece in source.mixture.slices]
    last = ", tokenizer" if source.tokenizer is not None else ""
    return [
        "",
        "## Again",
        "",
        f"These lines write the same bytes, with any number of `workers` (pyarrow {settings['pyarrow']}):",
        "",
        "```python",
        "from gsm_lab.data import ExerciseSource, Mixture, Slice, Tokenizer, write_dataset",
        "from gsm_lab.problems import ProblemSpec, Style",
        "",
        f"{tokenizers}slices = (",
        *slices,
        ")",
        f"source = ExerciseSource(Mixture(slices, {source.mixture.unit!r}), {source.split!r}, {source.seed}{last})",
        f'write_dataset("again", source, {", ".join(arguments)})',
        "```",
        "",
        "`gsm_lab.data.read_dataset(folder)` checks the shards and gives the exercises.",
        "",
    ]


def _code(value: Any) -> str:
    """Python that makes the value; of a settings class, only what differs from its defaults."""
    if not is_dataclass(value) or isinstance(value, type):
        return repr(value)
    arguments = []
    for field in fields(value):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        setting = getattr(value, field.name)
        if setting != default:
            arguments.append(f"{field.name}={_code(setting)}")
    return f"{type(value).__name__}({', '.join(arguments)})"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
