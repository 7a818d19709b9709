"""One module of gsm_lab and all that it needs, as a single file that works where gsm_lab is not installed.

Frameworks load a reward by the path of its file, in processes that know nothing else. The file holds the sources of the
modules it needs, under a name of their own, so that an installed gsm_lab of another version is neither used nor harmed.
"""

import ast
import hashlib
from pathlib import Path

import gsm_lab

_PACKAGE = Path(gsm_lab.__path__[0])
_LOADER = """
for _name, _source in _MODULES.items():
    if _name not in sys.modules:
        _module = sys.modules[_name] = types.ModuleType(_name)
        exec(compile(_source, f"<{_name}>", "exec"), _module.__dict__)
"""


def bundled(module: str = "gsm_lab.adapters.scoring") -> str:
    """The text of a Python file that defines all that `module` defines and needs the standard library only."""
    sources = _sources(module)
    digest = hashlib.blake2b(repr(sources).encode(), digest_size=4).hexdigest()
    flat = {name: f"_{name.replace('.', '_')}_{digest}" for name in sources}
    texts = {name: _rewritten(source, flat) for name, source in sources.items()}
    main = texts.pop(module)
    parts = [f'"""{module} and what it needs of gsm_lab, written by gsm_lab.adapters.bundle: do not edit."""\n']
    parts.append("import sys\nimport types\n\n_MODULES = {}\n")
    parts += [f"_MODULES[{flat[name]!r}] = {_literal(text)}\n" for name, text in texts.items()]
    return "\n".join([*parts, _LOADER, f"# ---- {module} ----\n", main])


def _sources(module: str) -> dict[str, str]:
    """The sources of a module and of all that it imports from gsm_lab; what is imported stands first."""
    sources: dict[str, str] = {}
    begun: set[str] = set()

    def collect(name: str) -> None:
        begun.add(name)
        source = _path_of(name).read_text(encoding="utf-8")
        for node in _own_imports(source):
            for found, _, _ in _origins(node):
                if found not in begun:
                    collect(found)
        sources[name] = source

    collect(module)
    return sources


def _path_of(module: str) -> Path:
    """The file of a module of gsm_lab, which need not exist."""
    place = _PACKAGE.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _own_imports(source: str) -> list[ast.ImportFrom]:
    """The statements that import from gsm_lab when they are run, not only for type checkers."""
    tree = ast.parse(source)
    unread = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in unread for statement in node.body for inner in ast.walk(statement)}
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "gsm_lab" and id(node) not in skipped
    ]


def _origins(node: ast.ImportFrom) -> list[tuple[str, str | None, str]]:
    """For each name of an import: the module it comes from, its name there (None: the module itself), its name here.

    A name that a package only passes on comes from where the package has it, so that not all of it is needed.
    """
    source = str(node.module)
    path = _path_of(source)
    names = [(alias.name, alias.asname or alias.name) for alias in node.names]
    if path.name != "__init__.py":
        return [(source, there, here) for there, here in names]
    passed_on = {
        name: (module, there)
        for statement in _own_imports(path.read_text(encoding="utf-8"))
        if statement.module != source
        for module, there, name in _origins(statement)
    }
    found: list[tuple[str, str | None, str]] = []
    for there, here in names:
        if there in passed_on:
            found.append((*passed_on[there], here))
        elif _path_of(f"{source}.{there}").is_file():
            found.append((f"{source}.{there}", None, here))
        else:
            found.append((source, there, here))
    return found


def _rewritten(source: str, flat: dict[str, str]) -> str:
    """The same source, importing its modules of gsm_lab by their names in the bundle."""
    lines = source.split("\n")
    for node in sorted(_own_imports(source), key=lambda node: -node.lineno):
        assert node.end_lineno is not None
        indent = " " * node.col_offset
        lines[node.lineno - 1 : node.end_lineno] = [
            f"{indent}import {flat[module]} as {name}"
            if there is None
            else f"{indent}from {flat[module]} import {there} as {name}"
            for module, there, name in _origins(node)
        ]
    return "\n".join(lines)


def _literal(source: str) -> str:
    """A string literal of a source, readable where that is possible."""
    return repr(source) if "'''" in source else f"r'''{source}'''"
