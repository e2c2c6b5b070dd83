"""The imports of the project's files, read from their text without running it."""

import ast

from tests.support.paths import ROOT

FOLDERS = ("features", "serving", "training")


def files(folder, root=ROOT):
    """Returns the Python files of a folder of the project, sorted."""
    return sorted((root / folder).rglob("*.py"))


def name_of(path, root=ROOT):
    """Returns the dotted name of a file's module."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(("callsieve", *parts)).removesuffix(".__init__")


FILES = [path for folder in FOLDERS for path in files(folder)]
MODULES = {name_of(path) for path in FILES}


def file_of(module):
    """Returns the file of a module of the project."""
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def everywhere(path):
    """Yields all nodes of a file, also those in functions and for type checkers."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def at_import(path):
    """Yields the nodes that run when a module is imported, without functions and code for type checkers."""
    waiting = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def imported(path, nodes, modules=frozenset(MODULES), root=ROOT):
    """Yields the dotted names that import statements name; relative names are resolved."""
    package = name_of(path, root).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, node.module] if node.module else base)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in modules else base
