"""A problem's graph as a small drawing for a page: who is computed from whom, what is needed, what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from gsm_lab.problems import Exercise, marking

BOX_WIDTH, BOX_HEIGHT, LANE_WIDTH, GAP_X, GAP_Y = 168, 34, 6, 12, 24
MOST_LETTERS = 27
"""A longer name is cut; its tooltip has all of it."""
GRAPH_STYLE = """
svg.graph { font: 10px system-ui, sans-serif; display: block }
svg.graph rect { fill: #fff; stroke: #999; rx: 4px }
svg.graph .needed rect { fill: #e3eef7; stroke: #0072b2 }
svg.graph .asked rect { fill: #ffe9c7; stroke: #d55e00; stroke-width: 2.5 }
svg.graph .given rect { stroke-dasharray: 4 2; stroke-width: 2.5 }
svg.graph path { fill: none; stroke: #bbb }
svg.graph path.needed { stroke: #0072b2 }
svg.graph .distractor text { fill: #777 }
"""
"""A stylesheet for what `graph_svg` writes."""

_Stop = tuple[int, int, int]
"""Something in a layer: a quantity as (its place, -1, its layer), or the lane of an edge that passes between boxes, as
(place of the child, place of the parent, layer)."""


def graph_svg(exercise: Exercise) -> str:
    """The graph as an inline SVG, all text escaped: parents above children, layers by depth, what is needed in blue."""
    nodes, layers = exercise.problem.graph.nodes, layers_of(exercise)
    middles, width = _middles([node.parents for node in nodes], layers)
    height = (max(layers) + 1) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 4
    needed = set(exercise.problem.needed)
    edges, boxes = [], []
    for place, node in enumerate(nodes):
        kind = ' class="needed"' if place in needed else ""
        for parent in node.parents:
            lanes = [(place, parent, layer) for layer in range(layers[parent] + 1, layers[place])]
            stops = [(parent, -1, layers[parent]), *lanes, (place, -1, layers[place])]
            edges.append(f'<path{kind} d="{_curve(stops, middles)}"/>')
        boxes.append(_box(exercise, place, middles[place, -1, layers[place]] - BOX_WIDTH // 2, _top(layers[place])))
    return (
        f'<svg class="graph" role="img" aria-label="graph of the problem" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{"".join(edges)}{"".join(boxes)}</svg>'
    )


def layers_of(exercise: Exercise) -> list[int]:
    """The layer of every quantity, each below all its parents; one without parents stands just above its first user."""
    nodes = exercise.problem.graph.nodes
    layers: list[int] = []
    users: list[list[int]] = [[] for _ in nodes]
    for place, node in enumerate(nodes):
        layers.append(max((layers[parent] for parent in node.parents), default=-1) + 1)
        for parent in node.parents:
            users[parent].append(place)
    return [
        layer if node.parents or not own else min(layers[user] for user in own) - 1
        for layer, node, own in zip(layers, nodes, users, strict=True)
    ]


def _middles(parents_of: Sequence[Sequence[int]], layers: Sequence[int]) -> tuple[dict[_Stop, int], int]:
    """Where the middle of every box and every lane is from the left, and how wide the drawing is.

    A layer stands in the order of what is above each of its boxes and lanes, and in the middle of the drawing.
    """
    above: dict[_Stop, list[_Stop]] = {(place, -1, layer): [] for place, layer in enumerate(layers)}
    for place, parents in enumerate(parents_of):
        for parent in parents:
            stop: _Stop = (parent, -1, layers[parent])
            for layer in range(layers[parent] + 1, layers[place]):
                lane = (place, parent, layer)
                above[lane] = [stop]
                stop = lane
            above[place, -1, layers[place]].append(stop)
    rows: list[list[_Stop]] = [[] for _ in range(max(layers) + 1)]
    for stop in above:
        rows[stop[2]].append(stop)
    width = max(sum(_width(stop) + GAP_X for stop in row) for row in rows) - GAP_X + 4
    middles: dict[_Stop, int] = {}
    for row in rows:
        at = (width - sum(_width(stop) + GAP_X for stop in row) + GAP_X) // 2
        for stop in sorted(row, key=lambda one: (_mean([middles[up] for up in above[one]], width / 2), one)):
            middles[stop] = at + _width(stop) // 2
            at += _width(stop) + GAP_X
    return middles, width


def _mean(numbers: Sequence[int], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _width(stop: _Stop) -> int:
    return BOX_WIDTH if stop[1] < 0 else LANE_WIDTH


def _top(layer: int) -> int:
    return 2 + layer * (BOX_HEIGHT + GAP_Y)


def _curve(stops: Sequence[_Stop], middles: Mapping[_Stop, int]) -> str:
    """From the foot of the first box along the lanes to the head of the last: bent between layers, straight in them."""
    x, y = middles[stops[0]], _top(stops[0][2]) + BOX_HEIGHT
    parts = [f"M{x} {y}"]
    for stop in stops[1:]:
        to_x, to_y = middles[stop], _top(stop[2])
        bend = (y + to_y) // 2
        parts.append(f"C{x} {bend} {to_x} {bend} {to_x} {to_y}")
        x, y = to_x, to_y + BOX_HEIGHT
        if stop is not stops[-1]:
            parts.append(f"V{y}")
    return "".join(parts)


def _box(exercise: Exercise, place: int, x: int, y: int) -> str:
    problem = exercise.problem
    node, name = problem.graph.nodes[place], marking.visible(exercise.names[place])
    kinds = ["needed" if place in problem.needed else "distractor"]
    kinds += ["asked"] * (place == problem.query) + ["given"] * (place == problem.given)
    short = name if len(name) <= MOST_LETTERS else name[: MOST_LETTERS - 1] + "…"
    constant = "" if node.constant is None else f" {node.constant}"
    how = f"{node.operation.value.replace('_', ' ')}{constant}; value {problem.values[place]}"
    return (
        f'<g class="{" ".join(kinds)}"><title>{escape(name)}: {how} ({", ".join(kinds)})</title>'
        f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}"/>'
        f'<text x="{x + 6}" y="{y + 14}">{escape(short)}</text><text x="{x + 6}" y="{y + 27}">{how}</text></g>'
    )
