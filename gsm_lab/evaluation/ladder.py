"""Where competence ends: names each op ID, edge or hard from what a model reached on it, and nothing else.

Use the model that is to be trained further (its base), on problems other than those the result is reported on.
"""

from collections.abc import Mapping

import pandas as pd

from gsm_lab.errors import DataError
from gsm_lab.evaluation.per_problem import ALL, PASS

ID, EDGE, HARD = "ID", "edge", "hard"


def edge_ladder(
    table: pd.DataFrame,
    stage: str,
    *,
    k: int,
    id_from: float = 0.8,
    hard_below: float = 0.1,
    context: str = ALL,
) -> dict[int, str]:
    """The name of each op for one stage of a table made by `tabulate`.

    ID: verified pass@1 is at least `id_from`. Hard: verified pass@k is below `hard_below`. Edge: what lies between,
    seldom right at once and yet within reach of k tries.

    Raises:
        DataError: the table has no such stage, k or context, or no data for an op.
    """
    chosen = table[(table["stage"] == stage) & (table["seed"] == ALL) & (table["context"] == context)]
    curves = chosen[(chosen["metric"] == PASS) & chosen["op"].notna()].pivot(index="op", columns="k", values="value")
    if not {1, k} <= set(curves.columns) or curves[[1, k]].isna().to_numpy().any():
        raise DataError(
            f"{stage!r} has no verified pass@1 and pass@{k} on every op in context {context!r}: "
            f"tabulate it with ks that hold 1 and {k}, from at least {k} samples a problem."
        )
    return {
        int(op): ID if first >= id_from else HARD if reach < hard_below else EDGE
        for op, first, reach in zip(curves.index, curves[1], curves[k], strict=True)
    }


def as_bands(ladder: Mapping[int, str]) -> dict[str, tuple[int, int]]:
    """The ladder as ranges of ops, for `tabulate`.

    Raises:
        DataError: a name comes back after another one, so that its ops are no range.
    """
    bands: dict[str, tuple[int, int]] = {}
    last = None
    for op, name in sorted(ladder.items()):
        if name in bands and name != last:
            raise DataError(
                f"{name!r} is not one range of ops in {dict(ladder)}: take other thresholds or more problems."
            )
        bands[name] = (bands.get(name, (op, op))[0], op)
        last = name
    return bands
