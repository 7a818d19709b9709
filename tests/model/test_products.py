"""The kernels' matrix products have the errors of sums in float32, with the processor's matrix unit and without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gsm_lab.model import kernels

ROUNDING = 2.0**-24
"""The largest relative error of rounding to float32."""


def drawn(size, how: str, generator) -> torch.Tensor:
    """Numbers that try the parts which a float32 is cut into."""
    numbers = torch.randn(size, generator=generator)
    if how == "of all sizes":
        return numbers * 10.0 ** (8 * torch.rand(size, generator=generator) - 4)
    if how == "tiny":
        return numbers * 1e-30
    if how == "with all bits":
        return torch.where(numbers > 0, 2.0 - 2.0**-23, 2.0**-23 - 2.0)
    if how == "near halves":  # a part's rounding is decided by the last bit
        return numbers.sign() * (1.0 + 2.0**-8 + 2.0**-23 * torch.randint(-2, 3, size, generator=generator))
    return numbers


@pytest.mark.parametrize("how", ["of one size", "of all sizes", "tiny", "with all bits", "near halves"])
@pytest.mark.parametrize(("rows", "width", "columns"), [(1, 32, 16), (37, 70, 50), (130, 128, 384), (64, 1000, 33)])
def test_products_have_the_errors_of_float32(how, rows, width, columns):
    generator = torch.Generator().manual_seed(0)
    x_ND = drawn((rows, width), how if how != "tiny" else "of one size", generator)
    matrix_WD, norm_D, bias_W = drawn((columns, width), how, generator), torch.ones(width), torch.zeros(columns)
    _, found_NW = kernels.project(x_ND, None, norm_D, matrix_WD, bias_W, 0.0)
    _, normed_ND = kernels.add_norm(x_ND, None, norm_D, 0.0)
    wanted_NW = normed_ND.double() @ matrix_WD.double().T
    size_NW = normed_ND.double().abs() @ matrix_WD.double().abs().T
    in_turn_NW = torch.zeros(rows, columns)
    for k in range(width):
        in_turn_NW += normed_ND[:, k : k + 1] * matrix_WD[:, k]
    error_NW, usual_NW = ((sums.double() - wanted_NW).abs() / size_NW for sums in (found_NW, in_turn_NW))
    assert error_NW.max() <= 2 * usual_NW.max()
    assert error_NW.square().mean().sqrt() <= 1.3 * usual_NW.square().mean().sqrt()


def test_parts_that_are_left_out_would_be_noticed():
    """The near miss: with two parts of each number, large and middle, errors are beyond any above for such numbers."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(130, 128, generator=generator) for _ in range(2))

    def parts(numbers):
        large = numbers.bfloat16().float()
        return large, (numbers - large).bfloat16().float()

    (a0, a1), (b0, b1) = parts(a), parts(b)
    found = sum(one.double() @ other.double().T for one, other in ((a0, b0), (a0, b1), (a1, b0), (a1, b1)))
    error = (found - a.double() @ b.double().T).abs() / (a.double().abs() @ b.double().abs().T)
    assert error.max() > 8 * ROUNDING


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_spoils_its_own_row_and_no_other(bad):
    generator = torch.Generator().manual_seed(0)
    x_ND, mixed_NM = (torch.randn(100, 48, generator=generator) for _ in range(2))
    weights = [torch.randn(size, generator=generator) for size in ((48, 48), (48,), (160, 48), (48, 80))]
    whole = kernels.feed_forward(x_ND, mixed_NM, *weights, 1e-6)
    mixed_NM[17, 5] = bad
    spoiled = kernels.feed_forward(x_ND, mixed_NM, *weights, 1e-6)
    others = torch.arange(100) != 17
    for one, other in zip(whole, spoiled, strict=True):
        assert not other[17].isfinite().any()
        assert torch.equal(one[others], other[others])


def test_newton_schulz_is_that_in_float64():
    from gsm_lab.training.optimizer import orthogonalised

    generator = torch.Generator().manual_seed(0)
    for size in ((3, 128, 384), (2, 33, 70), (5, 16, 16), (1, 1, 7), (0, 4, 8)):
        matrices = torch.randn(size, generator=generator)
        given = matrices.clone()
        torch.testing.assert_close(
            orthogonalised(matrices).double(), orthogonalised(matrices.double()), rtol=0, atol=1e-5
        )
        assert torch.equal(matrices, given)
    assert not orthogonalised(torch.zeros(1, 8, 8)).any()


@pytest.mark.skipif(not kernels.use_matrix_unit(), reason="this processor has no matrix unit, so all tests ran without")
def test_the_same_holds_where_the_matrix_unit_is_left_alone():
    folder = Path(__file__).parent
    files = [str(folder / name) for name in ("test_kernels.py", "test_decode.py", "test_products.py")]
    environment = os.environ | {"GSM_LAB_MATRIX_UNIT": "0"}
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "has no matrix unit" in done.stdout  # this test was skipped: so the unit was left alone
