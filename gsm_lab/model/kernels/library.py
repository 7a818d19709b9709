"""Finds, builds and loads the compiled kernels; without them everything works, slower, through PyTorch.

`make setup` builds them with the C compiler for the very processor that they run on, and their file's name says for
which source and processor: another checkout or machine does not load them by mistake. It takes about two seconds.
"""

import ctypes
import hashlib
import platform
import re
import shutil
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")
"""What is compiled; the headers beside it are parts of it."""
_OPTIONS = (
    "-O3",
    "-std=gnu11",
    "-fPIC",
    "-shared",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wno-psabi",
)
_TRIALS = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-mcpu=native",), ())
"""What is added, until the compiler takes it: Arm's compilers know another word, Apple's has no OpenMP."""


def compiled_path() -> Path:
    """Where the kernels of this source for this processor are, or would be."""
    sources = (SOURCE, *sorted(SOURCE.parent.glob("*.h")))
    described = [source.read_text(encoding="utf-8") for source in sources]
    described += [platform.machine(), platform.system(), *_OPTIONS]
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        described += re.findall(r"^(?:model name|flags|Features)\s*:.*$", cpu.read_text(), re.MULTILINE)[:2]
    digest = hashlib.blake2b("\n".join(described).encode(), digest_size=8).hexdigest()
    return SOURCE.with_name(f"kernels-{digest}.so")


def remove(kept: Path | None = None) -> None:
    """Delete what was built, for whatever processor, but `kept`."""
    for path in SOURCE.parent.glob("kernels-*.so"):
        if path != kept:
            path.unlink(missing_ok=True)  # another process may be doing the same


def build() -> Path:
    """Compile the kernels; the file.

    Raises:
        OSError: there is no C compiler, or it refuses; the message ends with what it said.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("there is no C compiler (cc, gcc or clang): install one to have the kernels.")
    target = compiled_path()
    said = ""
    with tempfile.TemporaryDirectory(dir=SOURCE.parent) as folder:
        for further in _TRIALS:
            made = Path(folder) / target.name
            command = [compiler, *_OPTIONS, *further, "-o", str(made), str(SOURCE), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                made.replace(target)
                remove(kept=target)
                return target
            said = done.stderr
    raise OSError(f"{compiler} does not compile {SOURCE.name}: {said[-2000:]}")


@cache
def library() -> ctypes.CDLL | None:
    """The loaded kernels; None when they were not built for this source and processor.

    PyTorch has to be loaded before, so that both use one pool of threads.
    """
    path = compiled_path()
    if sysconfig.get_platform().startswith("win") or not path.exists():
        return None
    return ctypes.CDLL(str(path))


def available() -> bool:
    """Whether the kernels are there."""
    return library() is not None


if __name__ == "__main__":
    print(build())
