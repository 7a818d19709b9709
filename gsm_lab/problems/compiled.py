"""Some modules of this package may be compiled (`compile.py` in the root says how); an outdated one is refused."""

import sysconfig
from pathlib import Path

_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX") or ".so"


def compiled_modules() -> tuple[str, ...]:
    """The names of the modules that Python loads compiled, in alphabetical order."""
    return tuple(sorted(path.name.removesuffix(_SUFFIX) for path in Path(__file__).parent.glob(f"*{_SUFFIX}")))


def refuse_stale_modules() -> None:
    """Make sure that no compiled module is older than its source.

    Raises:
        ImportError: one is: Python would run what the source said before.
    """
    folder = Path(__file__).parent
    for name in compiled_modules():
        compiled = folder / f"{name}{_SUFFIX}"
        for source in folder.glob(f"{name}.[cp]*"):
            if source.suffix in (".py", ".c") and source.stat().st_mtime > compiled.stat().st_mtime:
                raise ImportError(
                    f"{compiled.name} was compiled from an older {source.name}: run `make setup` to compile it again, "
                    f"or `python compile.py --remove` to go without."
                )
