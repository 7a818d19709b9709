"""The page of a report: claims, figures, tables, recipes and rollouts to read, in one file that asks for nothing.

All that anybody wrote, a model above all, is escaped: by the template, or by the marker of completions. The page also
forbids itself every script but its own, whose checksum it names, and everything from outside.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from gsm_lab.problems import Verdict, marking
from gsm_lab.study.claims import NOT_REPRODUCED, REPRODUCED, REVERSED, UNDECIDED
from gsm_lab.study.experiment import Experiment
from gsm_lab.study.report_graph import GRAPH_STYLE
from gsm_lab.study.report_samples import ReadProblem

MOST_BYTES = 10_000_000
"""A larger page is made smaller by leaving out rollouts."""
_SVG = "data:image/svg+xml;base64,"
KIND_OF_VERDICT = {
    REPRODUCED: "yes",
    NOT_REPRODUCED: "no",
    REVERSED: "no",
    UNDECIDED: "open",
}


@dataclass(frozen=True)
class PageTable:
    """A table of the page."""

    title: str
    frame: pd.DataFrame
    """Its index is the first column."""
    note: str = ""


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page."""

    title: str
    svg: bytes


@dataclass(frozen=True)
class PageRecipe:
    """How a stage was made, and what it took."""

    stage: str
    summary: str
    text: str


@dataclass(frozen=True)
class Page:
    """All that a page shows."""

    experiment: Experiment
    claims: pd.DataFrame
    figures: tuple[PageFigure, ...]
    tables: tuple[PageTable, ...]
    recipes: tuple[PageRecipe, ...]
    problems: tuple[ReadProblem, ...]


def page_text(page: Page, most_bytes: int = MOST_BYTES) -> str:
    """The page as HTML. Where it would be too long, every second problem is left out until it is not."""
    text = _render(page)
    while len(text.encode()) > most_bytes and page.problems:
        page = replace(page, problems=page.problems[::2] if len(page.problems) > 1 else ())
        text = _render(page)
    return text


def _render(page: Page) -> str:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["visible"] = marking.visible
    checksum = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    images = [
        {"title": one.title, "width": _width(one.svg), "source": _SVG + base64.b64encode(one.svg).decode()}
        for one in page.figures
    ]
    rollouts = [rollout for problem in page.problems for rollout in problem.rollouts]
    problems = [(one, Markup(one.graph), [(r, Markup(r.marked)) for r in one.rollouts]) for one in page.problems]
    return environment.from_string(PAGE).render(
        experiment=page.experiment,
        seeds=len({recipe.seed for recipe in page.experiment.recipes}),
        claims=list(_claims(page.claims)),
        images=images,
        tables=page.tables,
        recipes=page.recipes,
        problems=problems,
        number=len(rollouts),
        stages=list(dict.fromkeys(name for name in page.experiment.stage_names if name in {r.stage for r in rollouts})),
        ops=sorted({one.op for one in page.problems}),
        verdicts=[verdict.value for verdict in Verdict],
        style=Markup(marking.MARK_STYLE + GRAPH_STYLE),
        script=Markup(SCRIPT),
        checksum=checksum,
    )


def _width(svg: bytes) -> int:
    """How many pixels wide a drawing is shown, so that its letters are about as large as those of the tables."""
    points = re.search(rb'<svg[^>]* width="([0-9.]+)pt"', svg)
    return round(1.6 * float(points[1])) if points else 1200


def _claims(claims: pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    """The words of each row of the table of claims."""
    for record in claims.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        metric = row["metric"] if pd.isna(row["k"]) else row["metric"].replace("@k", f"@{row['k']}")
        context = "" if row["context"] == "all" else f", context {row['context']}"
        bound = {
            "gain": "a gain of at least",
            "loss": "a loss of at least",
            "no gain": "no gain as large as",
            "no loss": "no loss as large as",
            "no change": "no change as large as",
        }
        power = f"a difference of about {1.43 * row['half_width']:.3f} is told from none in four of five cases"
        for verdict, factor, what in (
            ("verdict_by_bootstrap", "more_data", "problems and seeds would decide the bootstrap"),
            ("verdict_by_seeds", "more_seeds", "seeds would decide Student's"),
        ):
            if row[verdict] == UNDECIDED:
                power += f"; {_times(row[factor])} the {what}"
        seeds = [f"{float(part.rpartition(': ')[2]):+.3f}" for part in row["seed_differences"].split("; ")]
        yield {
            **row,
            "kind": KIND_OF_VERDICT[row["verdict"]],
            "where": f"{row['band']}{context}, {metric}",
            "wanted": f"{bound[row['expects']]} {row['smallest']:g}",
            "value": f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]: {row['verdict_by_bootstrap']}",
            "seeds": ", ".join(seeds),
            "student": ""
            if math.isnan(row["student_low"])
            else f"[{row['student_low']:+.3f}, {row['student_high']:+.3f}]: {row['verdict_by_seeds']}",
            "power": power,
        }


def _times(factor: float) -> str:
    return f"{factor:.1f} times" if factor < 100 else "more than 100 times"


SCRIPT = """
"use strict";
const names = ["q", "stage", "op", "verdict"];
const field = name => document.getElementById("filter-" + name);
const rollouts = [...document.querySelectorAll(".rollout")];
const problems = [...document.querySelectorAll(".problem")];
const texts = new Map();
const textOf = node => {
  if (!texts.has(node)) texts.set(node, node.textContent.toLowerCase());
  return texts.get(node);
};
function show() {
  const want = Object.fromEntries(names.map(name => [name, field(name).value]));
  const q = want.q.trim().toLowerCase();
  let shown = 0;
  for (const problem of problems) {
    const told = q === "" || textOf(problem.querySelector(".told")).includes(q);
    let any = false;
    for (const one of problem.querySelectorAll(".rollout")) {
      const fits = (want.stage === "" || one.dataset.stage === want.stage)
        && (want.op === "" || problem.dataset.op === want.op)
        && (want.verdict === "" || one.dataset.verdict === want.verdict)
        && (told || textOf(one).includes(q));
      one.hidden = !fits;
      any = any || fits;
      shown += fits;
    }
    problem.hidden = !any;
  }
  document.getElementById("shown").textContent = `${shown} of ${rollouts.length} rollouts are shown.`;
}
function fromHash() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of names) if (given.has(name)) field(name).value = given.get(name);
  show();
}
for (const name of names) field(name).addEventListener("input", () => {
  const kept = new URLSearchParams(names.filter(one => field(one).value).map(one => [one, field(one).value]));
  history.replaceState(null, "", "#" + kept);
  show();
});
addEventListener("hashchange", fromHash);
fromHash();
"""
"""Filters the rollouts by the four fields, which the address after # can set: #q=lion&verdict=lucky."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'sha256-{{ checksum }}'; base-uri 'none'; form-action 'none'">
<title>{{ experiment.title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1250px; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin-top: 2.2rem }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: right; vertical-align: top }
th:first-child, td:first-child, .words td, .words th { text-align: left }
td { white-space: nowrap }
.words td { white-space: normal }
.words td.fixed { white-space: nowrap }
.wide { overflow-x: auto }
figure { margin: 1.2rem 0 }
img { max-width: 100%; height: auto; display: block }
small, .note { color: #555; font-size: 13px }
.badge { border-radius: .3rem; padding: .1rem .45rem; font-weight: 600; white-space: nowrap }
.yes { background: #d5ecd9; color: #0b4a1b }
.no { background: #fbdccd; color: #8a2a00 }
.open { background: #e8e8e8; color: #333 }
pre { background: #f5f5f5; padding: .6rem; overflow-x: auto; font-size: 12px }
summary { cursor: pointer }
.filters { position: sticky; top: 0; background: #fff; padding: .6rem 0; border-bottom: 1px solid #ccc; z-index: 1 }
.filters label { margin-right: 1rem } .filters input { width: 18rem }
.problem { border-top: 2px solid #888; margin-top: 1.5rem; padding-top: .5rem }
.told { white-space: pre-wrap; background: #f7f7f7; padding: .5rem .8rem }
.rollouts { margin-top: .8rem; display: grid; grid-template-columns: repeat(auto-fill, minmax(23rem, 1fr)); gap: .8rem;
  align-items: start }
.rollout { border: 1px solid #ddd; padding: .4rem .6rem; font-size: 13px; min-width: 0 }
.rollout h4 { margin: 0 0 .3rem; font-size: 13px }
[hidden] { display: none !important }
{{ style }}</style>
</head>
<body>
<h1>{{ experiment.title }}</h1>
<p>{{ experiment.recipes | length }} recipe{{ "s" if experiment.recipes | length > 1 }}, {{ seeds }} \
seed{{ "s" if seeds > 1 }}; bands of op:
{% for name, range in experiment.bands.items() %}{{ name }} {{ range[0] }} to {{ range[1] }}{{ ", " if not loop.last }}
{%- endfor %}. Brackets hold 95 % intervals. pass@k counts verified solutions only: the right answer by right steps.</p>
{% if claims %}
<h2 id="claims">Claims</h2>
<div class="wide"><table class="words"><thead><tr><th>claim</th><th>verdict</th><th>compared</th>
<th>difference</th><th>single seeds</th><th>power</th></tr></thead><tbody>
{% for one in claims %}
<tr><td><strong>{{ one.claim }}</strong>: {{ one.text }}<br><small>{{ one.source }}</small></td>
<td><span class="badge {{ one.kind }}">{{ one.verdict }}</span><br><small>expected: {{ one.wanted }}</small></td>
<td>{{ one.stage }} &minus; {{ one.baseline }}<br><small>{{ one.where }}</small></td>
<td class="fixed">{{ one.value }}<br><small>{{ one.num_problems }} problems, {{ one.num_seeds }} \
seed{{ "s" if one.num_seeds > 1 }}</small></td>
<td>{{ one.seeds }}{% if one.student %}<br>
<small>Student's interval over seeds {{ one.student }}</small>{% endif %}</td>
<td><small>{{ one.power }}</small></td></tr>
{% endfor %}
</tbody></table></div>
<p class="note">A difference is that of two stages on the same problems under the same seeds, the mean over the ops of a
band. A gain is reproduced if its interval is above 0 and it is at least as large as the smallest that counts; reversed
if the same holds below 0; not reproduced if the interval is below the smallest that counts, which rules out such a
gain. A loss is judged as the mirror. No gain is reproduced if the interval is below the smallest that counts, no loss
likewise, and no change if both are; they are not reproduced if the interval leaves 0 out and the difference is at
least that large. All else is not decided at this scale; then the factor says how many times the data would decide if
the difference stays what it is. Two intervals are asked and have to agree: one that resamples problems and seeds, too
narrow with few seeds, and Student's over the single seeds, which knows nothing of how few the problems are. No claim
is corrected for how many there are.</p>
{% endif %}
<h2 id="figures">Figures</h2>
{% for image in images %}
<figure><img alt="{{ image.title }}" width="{{ image.width }}" src="{{ image.source }}"></figure>
{% endfor %}
{% for table in tables %}
<h2>{{ table.title }}</h2>
{% if table.note %}<p class="note">{{ table.note }}</p>{% endif %}
<div class="wide"><table><thead><tr><th>{{ table.frame.index.name or "" }}</th>
{%- for name in table.frame.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for first, row in table.frame.iterrows() %}<tr><td>{{ first }}</td>
{%- for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endfor %}
<h2 id="recipes">Recipes</h2>
{% for one in recipes %}
<details><summary><strong>{{ one.stage }}</strong> {{ one.summary }}</summary><pre>{{ one.text }}</pre></details>
{% endfor %}
<h2 id="rollouts">Rollouts to read</h2>
<p class="note">{{ number }} rollouts of the evaluation, chosen so that every op and verdict of a stage is there:
rare verdicts are more frequent here than they are. Signs: ✓ right, ~ right in other words, ✗ wrong, + not needed,
↺ taken back. In graphs, blue boxes are needed, the orange one is asked for, grey ones are distractors.</p>
<div class="filters">
<label>text <input id="filter-q" type="search" placeholder="any words"></label>
<label>stage <select id="filter-stage"><option value="">all</option>
{% for name in stages %}<option>{{ name }}</option>{% endfor %}</select></label>
<label>op <select id="filter-op"><option value="">all</option>
{% for op in ops %}<option>{{ op }}</option>{% endfor %}</select></label>
<label>verdict <select id="filter-verdict"><option value="">all</option>
{% for verdict in verdicts %}<option>{{ verdict }}</option>{% endfor %}</select></label>
<span id="shown">{{ number }} rollouts.</span></div>
{% for problem, graph, rollouts in problems %}
<section class="problem" data-op="{{ problem.op }}">
<h3>op {{ problem.op }}, {{ problem.context }} <small>{{ problem.problem_id }}, answer {{ problem.exercise.answer }}\
</small></h3>
<div class="told"><bdi>{{ problem.exercise.prompt | visible }}</bdi></div>
<details open><summary>graph</summary><div class="wide">{{ graph }}</div></details>
<div class="rollouts">
{% for rollout, marked in rollouts %}
<div class="rollout" data-stage="{{ rollout.stage }}" data-verdict="{{ rollout.verdict }}">
<h4>{{ rollout.stage }} <small>seed {{ rollout.seed }}, sample {{ rollout.sample }}</small></h4>
{{ marked }}</div>
{% endfor %}
</div></section>
{% endfor %}
<script>{{ script }}</script>
</body></html>
"""
