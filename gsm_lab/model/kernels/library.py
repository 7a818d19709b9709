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
"""What is added, the first that the compiler takes: Arm's compilers know another word, Apple's has no OpenMP."""
_PROBE = "#ifdef _OPENMP\n#include <omp.h>\n#endif\nint one(void) { return 1; }\n"
"""What any compiler takes; were the kernels themselves tried, an error in them could cost an option in silence."""


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
    with tempfile.TemporaryDirectory(dir=SOURCE.parent) as folder:
        made, probe = Path(folder) / target.name, Path(folder) / "probe.c"
        probe.write_text(_PROBE, encoding="utf-8")
        taken = (further for further in _TRIALS if not _complaint(compiler, further, probe, made))
        complaint = _complaint(compiler, next(taken, ()), SOURCE, made)
        if complaint:
            raise OSError(f"{compiler} does not compile {SOURCE.name}: {complaint[-2000:]}")
        made.replace(target)
    remove(kept=target)
    return target


def _complaint(compiler: str, further: tuple[str, ...], source: Path, made: Path) -> str:
    """What the compiler says where it refuses a source; nothing where it takes it."""
    command = [compiler, *_OPTIONS, *further, "-o", str(made), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr or f"exit status {done.returncode}"


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
