"""Compiles the busiest modules of gsm_lab.problems, and the kernels of gsm_lab.model; `make setup` runs it.

Everything runs without it, too. The modules give the same results; with it a row takes half the time. All but one have
the same source, compiled with mypyc; colours.py has a second one in C. With the kernels (gsm_lab/model/kernels) models
train and sample faster on a CPU. Where there is no C compiler, or no Python headers, this says so and changes nothing.

Python loads a compiled module whatever its source says by now. So after editing one of them, `make setup` again, or
delete what this made with `python compile.py --remove`; until then gsm_lab.problems refuses to be imported.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent
PROBLEMS = ROOT / "gsm_lab" / "problems"
KERNELS = ROOT / "gsm_lab" / "model" / "kernels" / "library.py"
HOT = (
    "structure",
    "numbers",
    "distractors",
    "draw",
    "measures",
    "solution",
    "render",
    "identity",
    "literal",
    "phrase",
    "making",
    "budget",
    "algebra",
    "trace",
    "wording",
    "reading",
    "marks",
    "definitions",
    "chains",
    "equations",
    "examine",
)
IN_C = ("colours",)
"""Modules that have a second source in C, with the same functions."""
SETUP = """
from mypyc.build import mypycify
from setuptools import Extension, setup

modules = mypycify({arguments!r}, opt_level="3", group_name="gsm_lab")
for name in {in_c!r}:
    source = "gsm_lab/problems/" + name + ".c"
    modules.append(Extension("gsm_lab.problems." + name, [source], extra_compile_args=["-O3"]))
setup(name="gsm_lab_compiled", packages=[], ext_modules=modules)
"""


def remove_compiled() -> None:
    """Delete what an earlier run left."""
    kernels = KERNELS.parent.glob("kernels-*.so")
    for path in (*PROBLEMS.glob("*.so"), *PROBLEMS.glob("*.pyd"), *ROOT.glob("gsm_lab__mypyc.*"), *kernels):
        path.unlink()


def build_kernels() -> None:
    """Build the kernels, or say why not; their module is run by itself, so that PyTorch is not loaded."""
    done = subprocess.run([sys.executable, str(KERNELS)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        print("the kernels of gsm_lab.model were not built (see above): models run by PyTorch alone.", file=sys.stderr)


def main() -> None:
    """Compile, or say why not."""
    remove_compiled()
    build_kernels()
    arguments = ["--strict", *(f"gsm_lab/problems/{name}.py" for name in HOT)]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "setup.py"
        script.write_text(SETUP.format(arguments=arguments, in_c=IN_C), encoding="utf-8")
        command = [sys.executable, str(script), "build_ext", "--inplace", "--build-temp", folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    if done.returncode:
        remove_compiled()
        print((done.stdout + done.stderr)[-2000:], file=sys.stderr)
        print("gsm_lab.problems was not compiled (see above): it runs as it is, slower.", file=sys.stderr)


if __name__ == "__main__":
    remove_compiled() if sys.argv[1:] == ["--remove"] else main()
