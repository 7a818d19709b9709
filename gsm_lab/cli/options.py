"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Experiment = Annotated[str, typer.Argument(help="An experiment's folder, or its name below experiments/.")]
Runs = Annotated[Path, typer.Option(help="Folder of run folders.")]
Results = Annotated[Path, typer.Option(help="Folder of results.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of one process.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; if not said, the GPU where there is one.")]
Track = Annotated[
    list[str] | None,
    typer.Option(help="Also fill a tracker: tensorboard, wandb (offline) or trackio; may be repeated."),
]


def check_device(device: str | None) -> None:
    """Refuse a device that torch is not asked for here."""
    if device not in (None, "cpu", "cuda"):
        raise typer.BadParameter(f"device: {device!r}: give cpu or cuda.")


def set_threads(threads: int) -> None:
    """Give torch so many threads of this process."""
    import torch

    torch.set_num_threads(threads)
