"""Several processes that train one model: who they are, and the few things that they say to one another.

Every rank keeps the whole model and works through its own rows of the same batch; gradients are summed before each
step. So every rank makes the same step, and the weights stay equal bit for bit. Start one process a device with
`torchrun`; all of them must see the same folder of the run.

A rank that fails takes the others with it: they wait for it, lose the connection, and end with an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gsm_lab.errors import TrainingError

Result = TypeVar("Result")

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` tells each process: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables"""
PATIENCE = timedelta(hours=1)
"""How long a rank waits for the slowest one before it gives up: rollouts and evaluations take their time."""


class World:
    """The ranks of one run, seen from one of them. As a context, it takes the connection down at the end.

    Numbers that the host holds go through gloo, tensors on a GPU through NCCL. Every method but the plain attributes
    is a meeting: all ranks have to call it, in the same order. Alone, a meeting costs nothing and changes nothing.
    """

    rank: int
    """0 to `size` - 1; rank 0 writes the files."""
    size: int
    """How many ranks there are."""
    device: torch.device
    """Where this rank's model belongs."""

    def __init__(self, rank: int, size: int, device: torch.device, *, connected: bool) -> None:
        self.rank = rank
        self.size = size
        self.device = device
        self._connected = connected

    @classmethod
    def alone(cls, device: torch.device | str = "cpu") -> World:
        """One process that talks to nobody."""
        return cls(0, 1, torch.device(device), connected=False)

    @classmethod
    def from_environment(cls, device: Literal["cpu", "cuda"] | None = None) -> World:
        """The world that `torchrun` started this process into; alone when it did not.

        Args:
            device: where models are trained; by default CUDA where there is a GPU, else the CPU. On CUDA the process
                is bound to the GPU of its local rank.

        Raises:
            TrainingError: CUDA is asked for and there is no GPU; some of torchrun's variables are set and others are
                not, or are not the numbers they should be; or this machine has fewer GPUs than ranks.
        """
        kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
        found = [name for name in VARIABLES if os.environ.get(name)]
        if not found:
            if kind == "cuda" and not torch.cuda.is_available():
                raise TrainingError(
                    f"device='cuda', and torch {torch.__version__} finds no GPU here: give device='cpu', or none, or "
                    f"install a build of torch for this machine's GPU."
                )
            return cls.alone(kind)
        missing = [name for name in VARIABLES if name not in found]
        if missing:
            raise TrainingError(
                f"{', '.join(found)} are set and {', '.join(missing)} are not: start the command with torchrun, "
                f"which sets all of them, or unset them all to train in one process."
            )
        rank, size, local = (_whole_number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if not 0 <= rank < size or local < 0:
            raise TrainingError(
                f"RANK is {rank}, LOCAL_RANK {local} and WORLD_SIZE {size}: ranks count from 0 to WORLD_SIZE - 1; "
                f"start the command with torchrun, which numbers them."
            )
        place = _bound_gpu(local) if kind == "cuda" else torch.device("cpu")
        backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE)
        return cls(rank, size, place, connected=True)

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the other ranks; no more meetings after this."""
        if self._connected:
            self._connected = False
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the files."""
        return self.rank == 0

    @property
    def own(self) -> slice:
        """This rank's part of anything that all ranks hold whole: `rows[world.own]`. Item i is rank i % size's."""
        return slice(self.rank, None, self.size)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace the tensor by its sum over all ranks, where it is; on a GPU the host does not wait for it."""
        if self._connected:
            dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all ranks; a missing one counts as zero.

        One flat buffer, and so one exchange, for each dtype: that is done sooner than many small ones, and once a step
        it is short beside the micro-batches before it, so it is not overlapped with them. The sum is the same, bit for
        bit, on every rank and in every run with as many ranks; another number of ranks adds in another order.
        Gradients become views of the buffers.
        """
        if not self._connected:
            return
        by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in parameters:
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
        for group in by_dtype.values():
            flat = torch.cat([_gradient(parameter).flatten() for parameter in group])
            self.sum_(flat)
            for parameter, part in zip(group, torch.split(flat, [one.numel() for one in group]), strict=True):
                parameter.grad = part.view(parameter.shape)

    def sum_scalars(self, numbers: Sequence[float]) -> list[float]:
        """Each number summed over all ranks, in float64, on the host."""
        return [float(number) for number in self.sum_(torch.tensor(numbers, dtype=torch.float64))]

    def any(self, answer: bool) -> bool:
        """Whether any rank says yes."""
        return self.sum_scalars([float(answer)])[0] > 0

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks, on every rank.

        Values travel pickled between processes of one run, which have to trust each other anyway; nothing pickled is
        ever written or read.
        """
        if not self._connected:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank is here. Only the host waits: work that a GPU was given goes on."""
        self.sum_scalars([0.0])

    def same(self, value: Any) -> None:
        """Check that all ranks hold the same value.

        Raises:
            TrainingError: on every rank, when two differ.
        """
        values = self.gather(value)
        odd = [rank for rank, other in enumerate(values) if other != values[0]]
        if odd:
            raise TrainingError(
                f"the ranks disagree: rank 0 has {values[0]!r}, rank {odd[0]} has {values[odd[0]]!r}. Start every rank "
                f"with the same command, the same code and the same folder, which all of them must be able to read."
            )

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Do `work` on rank 0, then on all others at once; nobody goes on before all are done.

        For what puts a folder in order before it reads it: the others find it in order. When it fails on rank 0, the
        others do not begin.

        Raises:
            TrainingError: the work failed on rank 0, seen from another rank.
        """
        if self.is_first:
            try:
                result = work()
            except Exception as error:
                self.gather(str(error))
                raise
            self.gather(None)
        else:
            failure = self.gather(None)[0]
            if failure is not None:
                raise TrainingError(f"rank 0 failed, so rank {self.rank} stops: {failure}")
            result = work()
        self.barrier()
        return result


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _whole_number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise TrainingError(
            f"{name} is {os.environ[name]!r}, and should be a whole number: start the command with torchrun, "
            f"which sets it."
        ) from None


def _bound_gpu(local: int) -> torch.device:
    """The GPU of a local rank, made this process's own."""
    count = torch.cuda.device_count()
    if local >= count:
        raise TrainingError(
            f"local rank {local} has no GPU of its own, this machine has {count}: "
            f"start torchrun with --nproc-per-node {max(count, 1)} or less."
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
