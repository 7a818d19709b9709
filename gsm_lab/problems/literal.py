"""The literal strictness: whether a text is, word for word, a solution that the grammar of traces writes.

Letters may be any of the grammar's, steps may come in any valid order, a total may list its kinds in any order (the
problem tells none), and spaces do not count. Each statement is compared with what the writer of gold solutions writes
for the same quantity and letters, so nothing has to be understood, and a right solution is known in microseconds.
"""

from collections.abc import Sequence
from typing import Final

from gsm_lab.problems.exercise import Exercise
from gsm_lab.problems.grammar import ANSWER, END_ANSWER, END_THINK, THINK, VARIABLES, TraceGrammar
from gsm_lab.problems.graph import IMPLICIT, Node, Operation
from gsm_lab.problems.measures import linear_forms
from gsm_lab.problems.phrase import single_spaced
from gsm_lab.problems.solution import chain_text, definition_text, equation_texts, form_chain_text, last_check
from gsm_lab.problems.statements import Check, Given, Plan, Solve, Statement, Step, Unknown
from gsm_lab.problems.trace import MOST_CHARACTERS, read_statement

_LETTERS = frozenset(VARIABLES)
_NESTED: Final = Operation.NESTED_TOTAL


def num_retracted(exercise: Exercise, text: str) -> int | None:
    """How many statements a literal solution takes back, or None if the text is no literal solution."""
    grammar = exercise.grammar
    form = exercise.style.form
    if len(text) > MOST_CHARACTERS:
        return None
    answer = grammar.answer.format(value=exercise.answer)
    body = single_spaced(text)
    if form == "answer_only":
        return 0 if body == answer else None
    end = grammar.statement_end
    if form == "think":
        head, tail = THINK + " ", f" {END_THINK} {ANSWER} {exercise.answer} {END_ANSWER}"
        if not body.startswith(head) or not body.endswith(tail):
            return None
        body = body[len(head) : len(body) - len(tail)]
        if not body.endswith(end):
            return None
        body = body[: len(body) - len(end)]
    else:
        if not body.endswith(answer):
            return None
        body = body[: len(body) - len(answer)].rstrip()
        if not body.endswith(end):
            return None
        body = body[: len(body) - len(end)]
    pieces = body.split(end + " ") if end.isascii() else [piece.strip() for piece in body.split(end)]
    pieces = [piece.rstrip() for piece in pieces]
    num = 0
    retract = grammar.retract.removesuffix(end).rstrip()
    if retract in pieces:
        kept = _kept(pieces, retract, exercise)
        if kept is None:
            return None
        num = (len(pieces) - len(kept)) // 2
        pieces = kept
    return num if _is_written(exercise, pieces) else None


def _is_about(statement: Statement, exercise: Exercise) -> bool:
    """Whether a statement, right or wrong, is one that can be taken back: about a quantity, or of numbers alone."""
    if isinstance(statement, Step | Plan | Unknown | Given):
        return statement.name in exercise.quantity_of
    return isinstance(statement, Check | Solve)


def _kept(pieces: Sequence[str], retract: str, exercise: Exercise) -> list[str] | None:
    """The statements that were not taken back; None where there was nothing to take back."""
    kept: list[str] = []
    for piece in pieces:
        if piece != retract:
            kept.append(piece)
        elif kept and _is_about(read_statement(kept[-1], exercise.grammar), exercise):
            kept.pop()
        else:
            return None
    return kept


def _is_written(exercise: Exercise, pieces: Sequence[str]) -> bool:
    """Whether these statements, without the answer, are a whole and right solution."""
    problem, grammar, names = exercise.problem, exercise.grammar, exercise.names
    nodes, values, modulus = problem.graph.nodes, problem.values, problem.modulus
    place_of = exercise.quantity_of
    patterns = grammar.literal_patterns
    has_letters = grammar.has_variables
    letters: list[str] = [""] * len(nodes)
    used: set[str] = set()
    planned: set[int] = set()
    needed = set(problem.needed)
    unknown = -1
    letter = ""
    forms = None
    if problem.given is not None:
        unknown = problem.query
        forms = linear_forms(nodes[: problem.top + 1], unknown)
    chain = ""
    at = 0
    for piece in pieces:
        found = patterns.step.fullmatch(piece)
        place = -1 if found is None else place_of.get(found["n"], -1)
        if found is None or place < 0:
            if piece == _check_text(chain, grammar, modulus) and chain:
                chain = ""
            elif not _is_plan(piece, exercise, planned, unknown):
                mark = patterns.unknown.fullmatch(piece)
                if mark is None or unknown < 0 or mark["n"] != names[unknown] or letter:
                    break
                letter = mark["v"] if has_letters else names[unknown]
                if letter in used or (has_letters and letter not in _LETTERS):
                    return False
                used.add(letter)
                letters[unknown] = letter
            at += 1
            continue
        variable = found["v"] if has_letters else names[place]
        if variable in used or letters[place] or place not in needed or place == unknown:
            return False
        if has_letters and variable not in _LETTERS:
            return False
        node = nodes[place]
        for parent in node.parents:
            if not letters[parent]:
                return False
        chain = found["chain"]
        is_open = forms is not None and any(forms[parent].a for parent in node.parents)  # type: ignore[union-attr]
        if node.operation in IMPLICIT:
            told = _in_told_order(node, chain, letters)
            if told is None:
                return False
            node = told
        if is_open and forms is not None:
            expected = form_chain_text(node, letters, forms, letter)
        else:
            expected = chain_text(node, letters, values, modulus)
        if chain != expected:
            return False
        if is_open:
            chain = ""
        letters[place] = variable
        used.add(variable)
        at += 1
    if len(used) != len(needed):
        return False
    rest = pieces[at:]
    if forms is None:
        return not rest
    end = grammar.statement_end
    wanted = equation_texts(problem, forms[problem.top], names, letter, grammar)
    return list(rest) == [" ".join(one.split()).removesuffix(end).rstrip() for one in wanted]


def _check_text(chain: str, grammar: TraceGrammar, modulus: int | None) -> str | None:
    """What a check of this chain is, if there is one."""
    links = chain.split(" = ")
    if len(links) < 2:
        return None
    check = last_check(links[-2], int(links[-1]), modulus)
    if check is None:
        return None
    return grammar.check.format(equation=check).removesuffix(grammar.statement_end).rstrip()


def _is_plan(piece: str, exercise: Exercise, planned: set[int], unknown: int) -> bool:
    """Whether a statement is the plan of a needed quantity, told for the first time."""
    found = exercise.grammar.literal_patterns.plan.fullmatch(piece)
    if found is None:
        return False
    place = exercise.quantity_of.get(found["n"], -1)
    if place < 0 or place in planned or place == unknown or exercise.names[place] not in exercise.needed_names:
        return False
    node, names = exercise.problem.graph.nodes[place], exercise.names
    if node.operation in IMPLICIT:
        told = _in_told_order(node, found["expression"], names)
        if told is None:
            return False
        node = told
    wanted = definition_text(node, names) if node.parents else str(node.constant)
    if found["expression"] != wanted:
        return False
    planned.add(place)
    return True


def _in_told_order(node: Node, chain: str, letters: Sequence[str]) -> Node | None:
    """A total with its kinds in the order of a chain's first link, or None if that holds others."""
    first = chain.split(" = ", 1)[0]
    place_of = {letters[parent]: parent for parent in node.parents}
    symbols = first.replace(" * ", " + ").split(" + ")
    parents = [place_of.get(symbol, -1) for symbol in symbols]
    if sorted(parents) != sorted(node.parents):
        return None
    if node.operation is _NESTED:
        pairs = {(node.parents[at], node.parents[at + 1]) for at in range(0, len(node.parents), 2)}
        if {(parents[at], parents[at + 1]) for at in range(0, len(parents), 2)} != pairs:
            return None
    return Node(node.name, node.operation, node.constant, tuple(parents), node.minus)
