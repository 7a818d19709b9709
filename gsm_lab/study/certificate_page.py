"""A certificate for people: some lines for a terminal, and one page without any file beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jinja2

Counts = Mapping[str, Any]
_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>gsm_lab certificate</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { padding: .15rem .7rem; border-bottom: 1px solid #ccc; text-align: right; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left }
.holds { color: #00543c } .broken { color: #a33200 }
.bad { background: #fbe3d8 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .6rem }
</style></head><body>
<h1>gsm_lab certificate</h1>
<p class="{{ 'holds' if holds else 'broken' }}">
<strong>{{ 'The laws hold.' if holds else 'A law is broken.' }}</strong></p>
<p>gsm_lab {{ signed.gsm_lab }}, Python {{ signed.python }}, seed {{ signed.settings.seed }},
checksum <code>{{ checksum }}</code>.</p>
<ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>
{% macro table(head, rows) %}
<table><thead><tr>{% for cell in head %}<th>{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}
<tr{% if row.bad %} class="bad"{% endif %}>{% for cell in row.cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table>
{% endmacro %}
{% for title, head, rows, parts_head, parts in tables %}
<h2>{{ title }}</h2>
{{ table(head, rows) }}
{% if parts %}<details><summary>by mode and frames</summary>{{ table(parts_head, parts) }}</details>{% endif %}
{% endfor %}
{% if signed.broken %}
<h2>Broken laws</h2>
{% for law in signed.broken %}
<h3>{{ law.law }}: {{ law.times }} times</h3>
{% for example in law.examples %}
<pre>{% for name, value in example.items() %}{{ name }}: {{ value }}
{% endfor %}</pre>
{% endfor %}{% endfor %}{% endif %}
<h2>Settings</h2>
<pre>{{ settings }}</pre>
</body></html>
"""
)


def page_of(signed: Counts, times: Counts, checksum: str) -> str:
    """The page; all that a model or a file may have written is escaped."""
    figures = signed.get("figures", {})
    tables = []
    if figures:
        tables = [
            *(_tables_of(group, figures[group]) for group in _TITLES),
            ("Random texts", ("kind", *_VERDICTS), list(_fuzz_rows(figures["fuzz"])), (), []),
            ("The best guesses", ("op", "mode", "constant", "surface"), list(_guess_rows(figures["guesses"])), (), []),
        ]
    return _PAGE.render(
        signed=signed,
        holds=signed["holds"] and times.get("hold", True),
        checksum=checksum,
        lines=list(lines_of(signed, times, by_class=False)),
        tables=tables,
        settings="\n".join(f"{name}: {_listed(value)}" for name, value in signed["settings"].items()),
    )


def _listed(value: Any) -> str:
    """A setting as people write it."""
    if not isinstance(value, list | tuple):
        return str(value)
    return ", ".join(" ".join(map(str, one)) if isinstance(one, list | tuple) else str(one) for one in value) or "none"


_VERDICTS = ("correct", "lucky", "wrong", "unreadable", "None")
_TITLES = {"mutations": "Wrong solutions", "equivalences": "Right solutions written otherwise"}
_COUNTED = {
    "mutations": ("tried", "caught", "caught literally", "with the right answer"),
    "equivalences": ("tried", "accepted", "not literal", "named"),
}


def _tables_of(group: str, kinds: Counts) -> tuple[Any, ...]:
    """One table of whole classes, and one of their parts."""
    counted = _COUNTED[group]
    whole = [_row((kind,), _all_of(modes), group) for kind, modes in kinds.items()]
    return _TITLES[group], ("class", *counted), whole, ("class", "mode", "frames", *counted), list(_rows(kinds, group))


def _all_of(modes: Counts) -> dict[str, int]:
    """The counts of a class over its modes and frames."""
    return summed({mode: summed(frames) for mode, frames in modes.items()})


def _rows(kinds: Counts, group: str) -> Iterator[dict[str, Any]]:
    for kind, modes in kinds.items():
        for mode, frames in modes.items():
            for one, count in frames.items():
                yield _row((kind, mode, one), count, group)


def _row(names: tuple[str, ...], count: Counts, group: str) -> dict[str, Any]:
    tried = count["tried"]
    if group == "mutations":
        wanted = (tried - count["verified"], tried - count["literal"])
        return {"cells": (*names, tried, *wanted, count["right answer"]), "bad": wanted != (tried, tried)}
    wanted = (count["verified"], tried - count["literal"])
    return {"cells": (*names, tried, *wanted, count["named"]), "bad": wanted != (tried, tried)}


def _fuzz_rows(kinds: Counts) -> Iterator[dict[str, Any]]:
    for kind, verdicts in kinds.items():
        yield {"cells": (kind, *(verdicts.get(verdict, 0) for verdict in _VERDICTS)), "bad": "None" in verdicts}


def _guess_rows(guesses: list[Counts]) -> Iterator[dict[str, Any]]:
    for row in guesses:
        shares = [
            f"{share['share']:.3f} [{share['low']:.3f}, {share['high']:.3f}] {share['guess']}"
            if (share := row[name])
            else ""
            for name in ("constant", "surface")
        ]
        yield {"cells": (row["op"], row["mode"], *shares), "bad": False}


def summed(parts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Counts of all parts together."""
    names = dict.fromkeys(name for part in parts.values() for name in part)
    return {name: sum(part.get(name, 0) for part in parts.values()) for name in names}


def lines_of(signed: Counts, times: Counts, *, by_class: bool = True) -> Iterator[str]:
    """What was found, line by line; all classes of solutions together if not `by_class`."""
    yield from signed.get("faults", ())
    figures = signed.get("figures")
    if figures is None:
        return
    solver = figures["solver"]
    problems = solver["problems"]
    yield f"perfect solver, from the text alone: {solver['solved']} of {problems} verified"
    yield f"texts that contradict themselves or cannot be read: {solver['unreadable']}; premises lost: {solver['lost']}"
    yield f"gold solutions: {solver['gold']} of {problems} verified, {solver['gold_literal']} literally"
    yield (
        f"gold with other letters and in another order: {solver['reordered']} of {problems} verified, "
        f"{solver['reordered_literal']} literally"
    )
    yield "problems by kind: " + ", ".join(f"{kind} {count}" for kind, count in figures["kinds"].items())
    for group, title in _TITLES.items():
        classes = {kind: _all_of(modes) for kind, modes in figures[group].items()}
        together = {f"{title.lower()}, {len(classes)} classes:": summed(classes)}
        for kind, count in (classes if by_class else together).items():
            _, tried, *found = _row((kind,), count, group)["cells"]
            if group == "mutations":
                yield f"{kind:<22} {min(found[:2])} of {tried} caught; {found[2]} of them kept the right answer"
            else:
                yield f"{kind:<22} {min(found)} of {tried} accepted, not literally"
    by_verdict = summed(figures["fuzz"])
    yield "random texts: " + ", ".join(f"{verdict} {count}" for verdict, count in sorted(by_verdict.items()))
    splits = dict(figures["identities"])
    shared = splits.pop("in two splits")
    sizes = ", ".join(f"{split} {count}" for split, count in splits.items())
    yield f"different problems: {sizes}; {shared} in two splits"
    if times.get("slowest_megabyte") is not None:
        yield f"a megabyte of text takes {times['slowest_megabyte']:.2f} s at most, of {times['bound']} s allowed"
    for law in signed["broken"]:
        yield f"  broken: {law['law']}, {law['times']} times; {law['examples'][0]}"
