"""What a fair teacher knows of sums: when two expressions mean the same, and when one follows from another.

Nothing is evaluated but small trees of whole numbers and exact fractions, each with at most 64 operands.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from gsm_lab.problems.graph import Linear
from gsm_lab.problems.statements import Binary, Expression
from gsm_lab.problems.trace import linear_of, size_of

MOST_TERMS = 128
"""An expression with more terms than this, multiplied out, is not compared any further."""
MOST_REGROUPED = 6
"""More terms than this, of those that changed, are calculated in one go or one at a time, but not group by group."""
Number = int | Fraction
Term = tuple[str, ...]
"""What is multiplied, sorted: names as `nk`, numbers as `#3`, and numbers that divide as `/3`."""
Polynomial = dict[tuple[int, Term], int]
"""How often each term is added (1) or subtracted (-1).

Numbers are symbols like names, so that `2 + 3` is not `1 + 4`, and nothing cancels, so that `6 - 6` is not `5 - 5`.
"""


def number_from(expression: Expression, modulus: int | None = None) -> Number | None:
    """The exact value of an expression of numbers; None if it has a name in it or divides by 0.

    With a modulus it is a remainder, and only whole quotients are known.
    """
    if not isinstance(expression, Binary):
        return None if isinstance(expression, str) else expression
    left, right = number_from(expression.left, modulus), number_from(expression.right, modulus)
    if left is None or right is None:
        return None
    if expression.sign == "/":
        if not right or modulus is not None:
            return None
        return whole(Fraction(left) / right)
    result = left + right if expression.sign == "+" else left - right if expression.sign == "-" else left * right
    return result if modulus is None else result % modulus


def remainder(expression: Expression, modulus: int | None) -> Number | None:
    """The value of an expression, with a modulus as a remainder even if it is a number alone."""
    number = number_from(expression, modulus)
    return number if number is None or modulus is None else number % modulus


def whole(number: Number) -> Number:
    """The number, as a whole one if it is."""
    return number.numerator if isinstance(number, Fraction) and number.denominator == 1 else number


def multiplied_out(expression: Expression) -> Polynomial | None:
    """The expression as a sum of products of symbols; None if it is too large or divides by more than a number."""
    if not isinstance(expression, Binary):
        return {(1, (_symbol(expression),)): 1}
    if expression.sign == "/":
        left, divisor = multiplied_out(expression.left), expression.right
        if left is None or isinstance(divisor, str | Binary) or not divisor:
            return None
        mark = f"/{divisor}"
        return {(sign, tuple(sorted((*term, mark)))): count for (sign, term), count in left.items()}
    if expression.sign == "*":
        factors = factors_in(expression)
        symbols = [_symbol(factor) for factor in factors if not isinstance(factor, Binary)]
        if len(symbols) == len(factors):
            return {(1, tuple(sorted(symbols))): 1}
        return _product_of([multiplied_out(factor) for factor in factors])
    result: Polynomial = {}
    for factor, part in terms_in(expression):
        if not isinstance(part, Binary):
            alone = (factor, (_symbol(part),))
            result[alone] = result.get(alone, 0) + 1
            continue
        terms = multiplied_out(part)
        if terms is None:
            return None
        for (sign, term), count in terms.items():
            signed = (factor * sign, term)
            result[signed] = result.get(signed, 0) + count
    return None if len(result) > MOST_TERMS else result


def _symbol(operand: str | Number) -> str:
    """A name or a number as it stands in a term."""
    return f"n{operand}" if isinstance(operand, str) else f"#{operand}"


def _product_of(factors: Sequence[Polynomial | None]) -> Polynomial | None:
    """Factors multiplied out: first those that are sums, one after another, then all others at once."""
    result: Polynomial = {(1, ()): 1}
    symbols: list[str] = []
    sign_of_all = times = 1
    for terms in factors:
        if terms is None:
            return None
        if len(terms) == 1:
            for (sign, term), count in terms.items():
                symbols += term
                sign_of_all *= sign
                times *= count
            continue
        if len(result) * len(terms) > MOST_TERMS:
            return None
        grown: Polynomial = {}
        for (sign, term), count in result.items():
            for (other, more), number in terms.items():
                signed = (sign * other, tuple(sorted(term + more)))
                grown[signed] = grown.get(signed, 0) + count * number
        result = grown
    return {
        (sign * sign_of_all, tuple(sorted((*term, *symbols)))): count * times for (sign, term), count in result.items()
    }


def means_the_same(one: Expression, other: Expression, values: Mapping[str, Number] | None = None) -> bool:
    """Whether two expressions are equal up to the order, the brackets and the multiplying out of their terms.

    A number in `one` may stand for a name in `other` that has this value.
    """
    left = multiplied_out(one)
    return left is not None and polynomial_means(left, other, values)


def polynomial_means(left: Polynomial, other: Expression, values: Mapping[str, Number] | None = None) -> bool:
    """The same of an expression that is multiplied out already."""
    right = multiplied_out(other)
    if right is None:
        return False
    return left == right or (values is not None and _put_in_matches(left, right, values))


def _put_in_matches(left: Polynomial, right: Polynomial, values: Mapping[str, Number]) -> bool:
    """Whether every term of the left is one of the right with some names replaced by their values."""
    new = list(_terms_of(left, right))
    old = list(_terms_of(right, left))
    if len(new) != len(old):
        return False
    for term, sign in sorted(new, key=_num_names, reverse=True):  # those that leave the least choice come first
        found = next((at for at, (other, s) in enumerate(old) if s == sign and _stands_for(term, other, values)), None)
        if found is None:
            return False
        del old[found]
    return True


def _terms_of(one: Polynomial, other: Polynomial) -> Iterator[tuple[Term, int]]:
    """The terms that are more often in one than in the other, with their signs; at most so many of each kind."""
    for (sign, term), count in one.items():
        yield from itertools.repeat((term, sign), min(count - other.get((sign, term), 0), MOST_REGROUPED))


def _num_names(signed: tuple[Term, int]) -> int:
    return sum(symbol[0] == "n" for symbol in signed[0])


def _stands_for(term: Term, other: Term, values: Mapping[str, Number]) -> bool:
    """Whether a product is another one with some names replaced by their values."""
    rest = list(other)
    numbers = []
    for symbol in term:
        if symbol in rest:
            rest.remove(symbol)
        else:
            numbers.append(symbol)
    hidden = [values.get(symbol[1:]) if symbol[0] == "n" else None for symbol in rest]
    return None not in hidden and sorted(f"#{number}" for number in hidden) == sorted(numbers)


def terms_in(expression: Expression) -> list[tuple[int, Expression]]:
    """The terms of a sum with their signs, 1 or -1."""
    terms = []
    waiting = [(1, expression)]
    while waiting:
        sign, part = waiting.pop()
        if isinstance(part, Binary) and part.sign in "+-":
            waiting += [(sign if part.sign == "+" else -sign, part.right), (sign, part.left)]
        else:
            terms.append((sign, part))
    return terms


def factors_in(expression: Expression) -> list[Expression]:
    """The factors of a product."""
    factors = []
    waiting = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Binary) and part.sign == "*":
            waiting += [part.right, part.left]
        else:
            factors.append(part)
    return factors


def follows(later: Expression, earlier: Expression, modulus: int | None = None) -> bool:
    """Whether `later` is `earlier`, of the same value, with some of its calculations done.

    Equal values alone do not make a step: `4 + 5` does not follow from `3 + 6`.
    """
    if later == earlier:
        return True
    if not isinstance(later, Binary):
        if not isinstance(earlier, Binary):
            return modulus is not None and isinstance(earlier, int) and earlier % modulus == later
        return later in (number_from(earlier, modulus), number_from(earlier))
    if not isinstance(earlier, Binary) or remainder(later, modulus) != remainder(earlier, modulus):
        return False
    if means_the_same(later, earlier):
        return True
    if later.sign in "+-" or earlier.sign in "+-":
        return _terms_follow(terms_in(later), terms_in(earlier), modulus)
    if later.sign == "*" == earlier.sign:
        new = [(1, factor) for factor in factors_in(later)]
        old = [(1, factor) for factor in factors_in(earlier)]
        return _parts_follow(new, old, modulus, _product)
    if later.sign == earlier.sign:
        return follows(later.left, earlier.left, modulus) and follows(later.right, earlier.right, modulus)
    return False


Signed = list[tuple[int, Expression]]


def _terms_follow(later: Signed, earlier: Signed, modulus: int | None) -> bool:
    return _parts_follow(later, earlier, modulus, _sum)


def _sum(numbers: Sequence[Number]) -> Number:
    return sum(numbers)


def _product(numbers: Sequence[Number]) -> Number:
    result: Number = 1
    for number in numbers:
        result *= number
    return result


def _parts_follow(
    later: Signed, earlier: Signed, modulus: int | None, together: Callable[[Sequence[Number]], Number]
) -> bool:
    """Whether the later parts are what groups of the earlier ones give, each group calculated as its number.

    What is in both stays as it is, unless it is there by chance, as in `2 * 6 * 9 = 2 * 9`, counted modulo 10.
    """
    new, old = list(later), list(earlier)
    for part in later:
        if part in old:
            old.remove(part)
            new.remove(part)
    is_short = len(earlier) <= MOST_REGROUPED and len(new) < len(later)
    is_short = is_short and not any(isinstance(part, Binary) for _, part in later)
    return _are_groups(new, old, modulus, together) or (is_short and _are_groups(later, earlier, modulus, together))


def _are_groups(
    later: Signed, earlier: Signed, modulus: int | None, together: Callable[[Sequence[Number]], Number]
) -> bool:
    new, old = list(later), list(earlier)
    for sign, expression in later:
        if not isinstance(expression, Binary):
            continue
        found = next((part for part in old if part[0] == sign and follows(expression, part[1], modulus)), None)
        if found is None:
            return False
        old.remove(found)
        new.remove((sign, expression))
    return regroups(
        [_signed(part, modulus) for part in new], [_signed(part, modulus) for part in old], modulus, together
    )


def _signed(part: tuple[int, Expression], modulus: int | None) -> Number | None:
    value = number_from(part[1], modulus)
    return None if value is None else part[0] * value


def regroups(
    later: Sequence[Number | None],
    earlier: Sequence[Number | None],
    modulus: int | None,
    together: Callable[[Sequence[Number]], Number] = _sum,
) -> bool:
    """Whether the later numbers are what groups give that the earlier ones split into; one alone stays as it is."""
    new = [number for number in later if number is not None]
    old = [number for number in earlier if number is not None]
    if len(new) != len(later) or len(old) != len(earlier):
        return False
    if not new:
        return not any(old) if together is _sum else all(number == 1 for number in old)
    if len(new) > len(old):
        return False
    if len(old) > MOST_REGROUPED and len(new) > 1:
        return sorted(new) == sorted(old) or _are_runs(new, old, modulus, together)
    every = (tuple(range(len(old))),)
    return any(
        _are_results(new, [[old[at] for at in group] for group in groups], modulus, together)
        for groups in ((every,) if len(new) == 1 else _partitions(len(old), len(new)))
    )


def _are_runs(
    numbers: Sequence[Number],
    parts: Sequence[Number],
    modulus: int | None,
    together: Callable[[Sequence[Number]], Number],
) -> bool:
    """Whether the numbers, one after another, are what one run of parts after another gives."""
    start = 0
    for number in numbers:
        for end in range(start + 1, len(parts) + 1):
            if _are_results([number], [parts[start:end]], modulus, together):
                start = end
                break
        else:
            return False
    return start == len(parts)


def _are_results(
    numbers: Sequence[Number],
    groups: Sequence[Sequence[Number]],
    modulus: int | None,
    together: Callable[[Sequence[Number]], Number],
) -> bool:
    """Whether each group gives one of the numbers; with a modulus as a remainder, which may be subtracted."""
    rest = list(numbers)
    for group in groups:
        result = group[0] if len(group) == 1 else together(group)
        if len(group) > 1 and modulus is not None:
            result = result % modulus if result % modulus in rest else -(-result % modulus)
        if result not in rest:
            return False
        rest.remove(result)
    return True


@lru_cache
def _partitions(count: int, parts: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """All ways to split the places 0 to count - 1 into so many groups."""
    if count == 0:
        return ((),) if parts == 0 else ()
    if parts == 0:
        return ()
    alone = (((*groups, (count - 1,))) for groups in _partitions(count - 1, parts - 1))
    joined = (
        (*groups[:at], (*group, count - 1), *groups[at + 1 :])
        for groups in _partitions(count - 1, parts)
        for at, group in enumerate(groups)
    )
    return (*alone, *joined)


def form_follows(later: Expression, earlier: Expression, form: Linear, letters: Mapping[str, Linear]) -> bool:
    """Whether `later`, of the same form in the unknown as `earlier`, is that with some of its terms taken together."""
    if size_of(later) <= size_written_out(form) or means_the_same(later, earlier):
        return True
    if not isinstance(later, Binary) or not isinstance(earlier, Binary):
        return False
    if later.sign in "+-" and earlier.sign in "+-":
        return _form_terms_follow(terms_in(later), terms_in(earlier), letters)
    if later.sign != earlier.sign:
        return False
    orders = [(earlier.left, earlier.right)] + [(earlier.right, earlier.left)] * (later.sign == "*")
    return any(
        _part_follows(later.left, left, letters) and _part_follows(later.right, right, letters)
        for left, right in orders
    )


def _part_follows(later: Expression, earlier: Expression, letters: Mapping[str, Linear]) -> bool:
    form = linear_of(later, letters)
    return form is not None and form == linear_of(earlier, letters) and form_follows(later, earlier, form, letters)


def _form_terms_follow(later: Signed, earlier: Signed, letters: Mapping[str, Linear]) -> bool:
    """Whether the later terms are sums of groups that the earlier ones split into.

    What is in both stays as it is; only written-out terms can be sums.
    """
    left = dict(enumerate(earlier))
    new: list[Linear] = []
    for sign, term in later:
        form = linear_of(term, letters)
        if form is None:
            return False
        same = next(
            (number for number, (s, one) in left.items() if s == sign and (one == term or means_the_same(one, term))),
            None,
        )
        if size_of(term) > size_written_out(form) or (same is not None and len(left) > MOST_REGROUPED):
            if same is None:
                return False
            del left[same]
        else:
            new += _split(form, sign)
    old: list[Linear] = []
    for sign, term in left.values():
        form = linear_of(term, letters)
        if form is None:
            return False
        old += _split(form, sign)  # a product with a sum in it counts as multiplied out
    if len(old) > MOST_REGROUPED or len(new) > len(old):
        return sorted(new) == sorted(old)
    return any(
        sorted(Linear(sum(old[at].a for at in group), sum(old[at].b for at in group)) for group in groups)
        == sorted(new)
        for groups in _partitions(len(old), len(new))
    )


def _split(form: Linear, sign: int) -> list[Linear]:
    """A form as a term with the unknown and one without."""
    parts = [Linear(sign * form.a, 0), Linear(0, sign * form.b)]
    return parts if form.a and form.b else [parts[0] if form.a else parts[1]]


def written(form: Linear, letter: str) -> Expression:
    """The form as an expression."""
    term: Expression = letter if abs(form.a) == 1 else Binary("*", abs(form.a), letter)
    if not form.a:
        return form.b
    if form.a < 0:
        return Binary("-", form.b, term)
    return term if not form.b else Binary("+" if form.b > 0 else "-", term, abs(form.b))


def size_written_out(form: Linear) -> int:
    """The number of operands of a form as short as it can be written."""
    if not form.a:
        return 1
    return (1 if abs(form.a) == 1 else 2) + (form.b != 0)


def signs_in(expression: Expression) -> list[str]:
    """The signs of an expression, sorted."""
    found: list[str] = []
    waiting = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Binary):
            found.append(part.sign)
            waiting += [part.left, part.right]
    return sorted(found)
