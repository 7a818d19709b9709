"""The card of a data set: what it is, what it holds, and how to make it again, for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from gsm_lab.data.source import SPLITS, ExerciseSource
from gsm_lab.problems import LEVELS

_MEANING = {
    "op": "operands over all needed quantities, a constant counted as one",
    "steps": "quantities in the shortest solution",
    "binary_ops": "two-operand calculations in it",
    "depth": "quantities in its longest chain",
    "width": "most quantities that one is computed from",
    "distractors": "quantities that the answer does not depend on",
    "independent": "of these, computed from no needed quantity",
    "reachable": "of these, computed from needed quantities",
    "dead_end": "of these, alike in name to the last needed quantity, and used by nothing",
}
_LEVEL_NAMES = {"structure_id": "structures", "numbers_id": "structures with numbers", "problem_id": "problems"}
_SIZE_CATEGORIES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}


def card(sources: Sequence[ExerciseSource], manifest: Mapping[str, Any]) -> str:
    """README.md of a data set, from its sources and its manifest."""
    parts = (
        _yaml(manifest),
        _head(sources, manifest),
        _contents(manifest),
        _overlap(sources, manifest),
        _structures(manifest),
        _guesses(manifest),
        _columns(),
        _slices(sources),
        _again(sources, manifest),
    )
    return "\n".join(line for part in parts for line in part)


def _yaml(manifest: Mapping[str, Any]) -> list[str]:
    """What the Hugging Face hub and `datasets.load_dataset` read."""
    rows = sum(of["rows"] for of in manifest["splits"].values())
    languages = sorted({language for of in manifest["splits"].values() for language, _ in of["rows_by"]["language"]})
    named = [language for language in languages if language != "any"]
    return [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *(
            line
            for split in manifest["splits"]
            for line in (f"  - split: {split}", f"    path: data/{split}-*.parquet")
        ),
        *(["language:", *(f"- {language}" for language in named)] if named else []),
        "size_categories:",
        f"- {next((name for most, name in _SIZE_CATEGORIES.items() if rows < most), '10M<n<100M')}",
        "tags:",
        "- synthetic",
        "- math-word-problems",
        "---",
        "",
    ]


def _head(sources: Sequence[ExerciseSource], manifest: Mapping[str, Any]) -> list[str]:
    splits = manifest["splits"]
    rows = sum(of["rows"] for of in splits.values())
    megabytes = sum(file["bytes"] for shard in manifest["shards"] for file in shard["files"].values()) / 1e6
    names = ", ".join(f"`{split}`" for split in splits)
    seeds = " and ".join(dict.fromkeys(str(source.seed) for source in sources))
    return [
        f"# Word problems for {names}",
        "",
        f"{_count(rows, 'exercise')} in {_count(len(manifest['shards']), 'Parquet shard')} ({megabytes:.2f} MB), drawn "
        f"with seed {seeds} by gsm_lab ({manifest['settings']['gsm_lab']}). Every exercise is a dependency graph told "
        f"in words, with a worked solution of which every step can be graded. `gsm_lab.data.read_dataset(folder)` "
        f"checks the shards and gives the exercises; `datasets.load_dataset(folder)`, "
        f'`pandas.read_parquet(folder + "/data")`, DuckDB and Polars (`data/*.parquet`) open the table.',
    ]


def _contents(manifest: Mapping[str, Any]) -> list[str]:
    splits = manifest["splits"]
    has_tokens = all("prompt_tokens" in of for of in splits.values())
    header = [
        "split",
        "exercises",
        *(f"different {_LEVEL_NAMES[level]}" for level in LEVELS),
        "problems drawn for each",
    ]
    rows = [
        [
            f"`{split}`",
            f"{of['rows']:,}",
            *(f"{of['different'][level]:,}" for level in LEVELS),
            f"{of['drawn_per_row']['problems']:.2f}",
            *([f"{of['prompt_tokens']:,}", f"{of['completion_tokens']:,}"] if has_tokens else []),
        ]
        for split, of in splits.items()
    ]
    if has_tokens:
        header += ["tokens in prompts", "in completions with their ends"]
    lines = ["", "## Contents", "", *_table(header, rows)]
    numbers = max(of["drawn_per_row"]["numbers"] / of["drawn_per_row"]["problems"] for of in splits.values())
    lines += [
        "",
        f"A problem that belongs to another split is drawn again. For one problem, numbers were "
        f"drawn {numbers:.2f} times{'' if len(splits) == 1 else ' in the split where that was most'}.",
    ]
    if has_tokens:
        lines += ["", "Tokens are those of the tokenizer in `tokenizer/`."]
    for split, of in splits.items():
        sizes = (
            (size, _MEANING[size], spread["least"], f"{spread['mean']:.2f}", spread["greatest"])
            for size, spread in of["sizes"].items()
        )
        lines += ["", f"### `{split}`", "", *_table(("size", "what it counts", "least", "mean", "greatest"), sizes)]
        for column, counts in of["rows_by"].items():
            lines += ["", *_table((column, "exercises"), ((value, f"{count:,}") for value, count in counts))]
    return lines


def _overlap(sources: Sequence[ExerciseSource], manifest: Mapping[str, Any]) -> list[str]:
    by, held_out = sources[0].split_by, sources[0].held_out
    owned = ", ".join(f"`{source.split}` owns {SPLITS[source.split]} %" for source in sources)
    lines = [
        "",
        "## Splits",
        "",
        f"The {_LEVEL_NAMES[by]} are shared out among the splits (by `{by}`, whatever the words): {owned}. So two "
        f"splits share none of the {_LEVEL_NAMES[by]}{'' if by == LEVELS[-1] else ', nor anything finer'}.",
    ]
    if held_out is not None:
        lines += ["", f"Besides, {_count(len(held_out.structures), 'structure')} belong to `{held_out.split}` alone."]
    if manifest["overlap"]:
        header = ("splits", *(f"shared {_LEVEL_NAMES[level]}" for level in LEVELS))
        rows = (
            (" and ".join(f"`{split}`" for split in pair["splits"]), *(f"{pair[level]:,}" for level in LEVELS))
            for pair in manifest["overlap"]
        )
        lines += ["", *_table(header, rows)]
    return lines


def _structures(manifest: Mapping[str, Any]) -> list[str]:
    """How many structures were drawn, and how many there seem to be."""
    rows = []
    for of in manifest["structures"]:
        if of["is_all"]:
            exist = f"{of['different']:,}: all of them, as far as {of['draws']:,} draws can tell"
        else:
            exist = f"about {of['chao1']:,.0f} or more"
        rows.append((of["op"], of["mode"], f"{of['draws']:,}", f"{of['different']:,}", exist, f"{of['coverage']:.3f}"))
    return [
        "",
        "## How many structures there are",
        "",
        "A low op has few. D different ones were drawn, f1 of them once and f2 twice: at least about D + f1 (f1 - 1) / "
        "(2 (f2 + 1)) exist (Chao1), and a share of 1 - f1 / draws of further draws would be known ones (Good-Turing). "
        "Over all splits.",
        "",
        *_table(("op", "mode", "draws", "different", "exist", "known share of further draws"), rows),
    ]


def _guesses(manifest: Mapping[str, Any]) -> list[str]:
    """What luck is worth."""

    def shown(of: Mapping[str, Any] | None) -> tuple[str, str]:
        if of is None:
            return "too few exercises", ""
        return str(of["guess"]), f"{100 * of['share']:.1f} % ({100 * of['low']:.1f} to {100 * of['high']:.1f})"

    rows = (
        (of["op"], of["mode"], *shown(of["constant"]), *shown(of["surface"]), f"{of['measured_on']:,}")
        for of in manifest["guesses"]
    )
    return [
        "",
        "## What guessing gets right",
        "",
        "The best constant answer, and the best guess from one number that is there to be seen in the text, without "
        "following any definition to another. Both are chosen on one half of the problems and measured on the other, "
        "with 95 % Wilson intervals.",
        "",
        *_table(("op", "mode", "constant", "right", "surface guess", "right", "exercises"), rows),
    ]


def _columns() -> list[str]:
    return [
        "",
        "## Columns",
        "",
        "`problem_id` names the whole problem, `numbers_id` its needed quantities with their numbers, `structure_id` "
        "these without numbers; none depends on words, order or names. `disorder` is the share of sentences that stand "
        "before what they need. `prompt` + `completion` is the whole text, `answer` its result. `graph` (JSON) has "
        "every quantity as [place, item, each, operation, constant, parents, minus]; `names` are what the solution "
        "calls them, `sentences` those that the text defines, in its order. `slice` is the number of the row's "
        "settings.",
    ]


def _slices(sources: Sequence[ExerciseSource]) -> list[str]:
    lines = ["", "## Settings"]
    for source in sources:
        header = ("slice", "op", "mode", "context", "frames", f"weight in {source.mixture.unit}", "share of problems")
        rows = (
            (number, piece.spec.op, piece.spec.mode, f"`{piece.context}`", f"`{piece.frames}`", f"{piece.weight:g}",
             f"{share:.4f}")
            for number, (piece, share) in enumerate(zip(source.mixture.slices, source.problem_shares, strict=True))
        )  # fmt: skip
        lines += ["", f"### Settings of `{source.split}`", "", *_table(header, rows)]
    return [*lines, "", "`manifest.json` has all settings, the templates and the checksums."]


def _again(sources: Sequence[ExerciseSource], manifest: Mapping[str, Any]) -> list[str]:
    settings = manifest["settings"]
    numbers = [own["num_problems"] for own in settings["sources"]]
    needs_tokenizer = settings["counted_with_tokenizer"] is not None
    mixtures = list(dict.fromkeys(source.mixture for source in sources))
    lines = [
        "",
        "## Again",
        "",
        f"These lines write the same bytes, with any number of `workers` (pyarrow {settings['pyarrow']}):",
        "",
        "```python",
        "from gsm_lab.data import ExerciseSource, HeldOut, Mixture, Slice, Tokenizer, write_dataset",
        "from gsm_lab.problems import ProblemSpec, Style",
        "",
    ]
    if needs_tokenizer:
        lines.append('tokenizer = Tokenizer.load("tokenizer")  # of this folder')
    for number, mixture in enumerate(mixtures):
        lines += [f"slices_{number} = (", *(f"    {_code(piece)}," for piece in mixture.slices), ")"]
        lines.append(f"mixture_{number} = Mixture(slices_{number}, {mixture.unit!r})")
    lines.append("sources = [")
    for source in sources:
        arguments = [f"mixture_{mixtures.index(source.mixture)}", repr(source.split), str(source.seed)]
        arguments += ["tokenizer"] if source.tokenizer is not None else []
        arguments += [f"split_by={source.split_by!r}"] if source.split_by != "problem_id" else []
        arguments += [f"held_out={_code(source.held_out)}"] if source.held_out is not None else []
        lines.append(f"    ExerciseSource({', '.join(arguments)}),")
    last = ", tokenizer" if needs_tokenizer else ""
    lines += ["]", f'write_dataset("again", sources, {numbers}, {settings["shard_size"]}{last})', "```", ""]
    return lines


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
