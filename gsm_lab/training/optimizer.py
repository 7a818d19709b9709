"""The optimiser: Muon for the hidden matrices, AdamW for everything else, or AdamW for all.

Its state is a flat dictionary of tensors, so that it goes to disk as safetensors and comes back bit for bit. Muon
works on all matrices of one size at once: a small model has many small matrices, and a Python loop over them costs
more than the sums. Sources: AdamW, arXiv:1711.05101; Muon, Jordan et al. 2024 (kellerjordan.github.io/posts/muon).

Shapes: M matrices of one size, each with S short and L long side.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gsm_lab.errors import CheckpointError, TrainingError
from gsm_lab.model import Transformer, kernels

NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients that push every singular value to about 1 (0.7 to 1.2) in five steps; they do not converge to 1."""
CLIP_ROOM = 1e-6
"""Added to a gradient's length before the limit is divided by it, as PyTorch does."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """What the optimiser does with a gradient.

    Raises:
        TrainingError: a rate, a share or a limit outside its range.
    """

    kind: Literal["muon", "adamw"] = "muon"
    """`muon` treats the hidden matrices with Muon and the rest with AdamW; `adamw` treats everything with AdamW."""
    learning_rate: float = 3e-3
    """Full rate of AdamW: of embeddings, head, norms and biases, or of everything."""
    matrix_learning_rate: float = 2e-2
    """Full rate of Muon: an update of a square matrix has singular values of about this size."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's averages of the gradient and of its square."""
    epsilon: float = 1e-8
    """Added to the root of AdamW's second average."""
    momentum: float = 0.95
    """Muon's momentum (Nesterov's form)."""
    weight_decay: float = 0.0
    """Share taken from each matrix or table per step, times its learning rate; never from norms and biases."""
    gradient_clip: float = 1.0
    """Longest gradient over all parameters together; a longer one is scaled down to it. Infinity clips nothing."""

    def __post_init__(self) -> None:
        if self.kind not in ("muon", "adamw"):
            raise TrainingError(f"optimiser kind is {self.kind!r}: choose muon or adamw.")
        for name in ("learning_rate", "matrix_learning_rate", "epsilon", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} is {getattr(self, name)}: give a number above 0.")
        if not all(0 <= share < 1 for share in (*self.betas, self.momentum)) or not self.weight_decay >= 0:
            raise TrainingError(
                f"betas {self.betas}, momentum {self.momentum}, weight_decay {self.weight_decay}: "
                f"averages lie in [0, 1), and the decay is 0 or more."
            )


class Optimizer:
    """Moves a model's parameters by their gradients."""

    def __init__(self, model: Transformer, settings: OptimizerSettings) -> None:
        self.settings = settings
        self._parameters = dict(model.named_parameters())
        chosen = hidden_matrices(model) if settings.kind == "muon" else {}
        self._muon = Muon(chosen, settings) if chosen else None
        rest = {name: value for name, value in self._parameters.items() if name not in chosen}
        self._in_kernels = all(kernels.suit(value) for value in self._parameters.values())
        self._adamw = AdamW(rest, settings, self._in_kernels)

    def step(self, learning_rate_scale: float) -> float:
        """Clip the gradient, move every parameter, forget the gradient; returns its length BEFORE clipping.

        Raises:
            TrainingError: the gradient is not finite; nothing was moved.
        """
        gradients = [self._gradient(value) for value in self._parameters.values()]
        length = kernels.length_of(gradients) if self._in_kernels else float(torch.nn.utils.get_total_norm(gradients))
        if not math.isfinite(length):
            raise TrainingError(
                f"the gradient's length is {length}: no step was made. Lower the learning rate, or look at the batch."
            )
        most = self.settings.gradient_clip
        clipped = 1.0 if length <= most else most / (length + CLIP_ROOM)
        self._adamw.step(self.settings.learning_rate * learning_rate_scale, clipped)
        if self._muon is not None:
            self._muon.step(self.settings.matrix_learning_rate * learning_rate_scale, clipped)
        self.forget_gradient()
        return length

    def forget_gradient(self) -> None:
        """Drop what has been accumulated."""
        for parameter in self._parameters.values():
            parameter.grad = None

    @property
    def state(self) -> dict[str, Tensor]:
        """All averages by name; the tensors themselves, not copies."""
        return self._adamw.state | ({} if self._muon is None else self._muon.state)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a `state`.

        Raises:
            CheckpointError: other names or shapes than this optimiser's.
        """
        own = self.state
        if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
            odd = sorted(own.keys() ^ tensors.keys())[:3]
            raise CheckpointError(
                f"the optimiser state is another optimiser's (differing entries begin with {odd or 'other shapes'}): "
                f"resume with the settings it was saved under, or start in an empty folder."
            )
        for name, value in own.items():
            value.copy_(tensors[name])

    @staticmethod
    def _gradient(parameter: nn.Parameter) -> Tensor:
        """The gradient, zeros where the loss did not reach: every parameter moves by the same rule at every step."""
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        return parameter.grad


def hidden_matrices(model: Transformer) -> dict[str, nn.Parameter]:
    """The matrices between embedding and head, by their names in the model."""
    layers = {id(value) for value in model.model.layers.parameters()}
    return {name: value for name, value in model.named_parameters() if value.dim() == 2 and id(value) in layers}


class AdamW:
    """Averages of the gradient and of its square; each weight moves by their quotient, so by about the learning rate.

    The compiled kernels do the sums, or PyTorch's fused step; its class is not used, for its import alone costs a
    second, and its state begins empty. The decay leaves norms and biases alone.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: OptimizerSettings, in_kernels: bool) -> None:
        self._settings, self._in_kernels = settings, in_kernels
        self._steps = torch.zeros((), dtype=torch.int64)
        self.state = {"adamw.steps": self._steps}
        self._groups: list[tuple[list[Tensor], list[Tensor], list[Tensor], float]] = []
        for decayed in (True, False):
            own = {name: value for name, value in parameters.items() if (value.dim() >= 2) == decayed}
            averages, squares = ([torch.zeros_like(value) for value in own.values()] for _ in range(2))
            for name, average, square in zip(own, averages, squares, strict=True):
                self.state |= {f"adamw.average.{name}": average, f"adamw.square.{name}": square}
            if own:
                decay = settings.weight_decay if decayed else 0.0
                self._groups.append((list(own.values()), averages, squares, decay))

    @torch.no_grad()
    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Move every parameter by its gradient times `scale`."""
        betas, epsilon = self._settings.betas, self._settings.epsilon
        self._steps += 1
        for parameters, averages, squares, decay in self._groups:
            gradients = [_grad(value) for value in parameters]
            if self._in_kernels:
                kernels.adamw_step(
                    parameters,
                    gradients,
                    averages,
                    squares,
                    scale=scale,
                    step=int(self._steps),
                    learning_rate=learning_rate,
                    weight_decay=decay,
                    betas=betas,
                    epsilon=epsilon,
                )
                continue
            torch._foreach_mul_(gradients, scale)
            steps = self._steps.to(parameters[0].device, torch.float32)
            torch._fused_adamw_(
                parameters,
                gradients,
                averages,
                squares,
                [],
                [steps] * len(parameters),
                lr=learning_rate,
                beta1=betas[0],
                beta2=betas[1],
                weight_decay=decay,
                eps=epsilon,
                amsgrad=False,
                maximize=False,
            )


class Muon:
    """Momentum whose singular values are all pushed to about 1: every direction of a matrix moves alike.

    An update of a matrix with more rows than columns is scaled by sqrt(rows / columns), so that it changes outputs
    as much as that of a square one (Jordan's choice). Matrices are laid short side first and worked on by size.
    """

    def __init__(self, matrices: Mapping[str, nn.Parameter], settings: OptimizerSettings) -> None:
        self._momentum = settings.momentum
        self._weight_decay = settings.weight_decay
        self._groups: dict[str, list[nn.Parameter]] = {}
        for matrix in matrices.values():
            short, long = sorted(matrix.shape)
            self._groups.setdefault(f"muon.{short}x{long}", []).append(matrix)
        self.state = {
            name: torch.stack([torch.zeros_like(_short_side_first(matrix)) for matrix in group]).contiguous()
            for name, group in self._groups.items()
        }

    @torch.no_grad()
    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Move every matrix by its gradient times `scale`."""
        for name, group in self._groups.items():
            gradients_MSL = torch.stack([_short_side_first(_grad(matrix)) for matrix in group])
            if scale != 1.0:
                gradients_MSL *= scale
            average_MSL = self.state[name].lerp_(gradients_MSL, 1.0 - self._momentum)
            updates_MSL = orthogonalised(gradients_MSL.lerp_(average_MSL, self._momentum))
            for matrix, update_SL in zip(group, updates_MSL.unbind(), strict=True):
                rows, columns = matrix.shape
                update = update_SL.mT if rows > columns else update_SL
                matrix.mul_(1.0 - learning_rate * self._weight_decay).add_(
                    update, alpha=-learning_rate * math.sqrt(max(1.0, rows / columns))
                )


def orthogonalised(matrices_MSL: Tensor) -> Tensor:
    """Each matrix with its singular values pushed to about 1, singular vectors kept: (M, S, L) -> (M, S, L).

    Newton-Schulz with a quintic polynomial; in bfloat16 on a GPU, where it is meant to be fast, and in the given
    precision elsewhere: in bfloat16 a difference in the seventh digit of a gradient becomes one in the third digit of
    the update, and the number of processes would show in the weights. A zero matrix stays zero.
    """
    if kernels.suit(matrices_MSL):
        return kernels.orthogonalised(matrices_MSL, NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS)
    a, b, c = NEWTON_SCHULZ
    given = matrices_MSL.dtype
    x_MSL = matrices_MSL.to(torch.bfloat16) if matrices_MSL.is_cuda else matrices_MSL
    x_MSL = x_MSL / (x_MSL.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram_MSS = x_MSL @ x_MSL.mT
        polynomial_MSS = torch.baddbmm(gram_MSS, gram_MSS, gram_MSS, beta=b, alpha=c)
        x_MSL = torch.baddbmm(x_MSL, polynomial_MSS, x_MSL, beta=a)
    return x_MSL.to(given)


def _short_side_first(matrix: Tensor) -> Tensor:
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "Optimizer.step fills missing gradients first"
    return parameter.grad
