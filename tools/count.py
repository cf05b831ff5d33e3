"""The numbers of the structure: import chains, cycles, sizes of files and folders, lines of code. Reads the files and imports none of them.

    python -m tools.count [--root DIR] [--json]

Works on any checkout, older ones too, so that two of them can be compared. `tests/test_boundaries.py` holds the limits
that stand here, and reads the imports with the same functions.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "CHAIN",
    "FILES",
    "LINES",
    "chain",
    "code_lines",
    "crowded",
    "imported",
    "long_files",
    "main",
    "measure",
    "module_graph",
    "modules",
    "named_as_functions",
    "without_cycles",
]

ROOT = Path(__file__).parent.parent

CHAIN = {False: 12, True: 15}
"""The longest chain of imports that is allowed, in modules: without and with the imports inside functions."""

LINES = 350
"""The lines that a file of Python or C may have."""

FILES = {"interop": 16, "conformance": 16, "tests": 25}
"""The files that a folder may hold."""

SOURCE = (".py", ".c", ".h")
BUILT = (".pyc", ".pyo", ".so", ".pyd")


# Imports.


def modules(folder: Path) -> dict[str, Path]:
    """Return the modules of the package in a folder, by their dotted names."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [folder.name, *path.relative_to(folder).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, *, functions: bool = True) -> Iterator[str]:
    """Return what a file imports, as ``module.name``; imports for type checkers only are left out.

    A literal name that is given to `importlib.import_module` is an import like any other.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {id(node) for block in ast.walk(tree) if _is_for_types(block) for part in block.body for node in ast.walk(part)}
    if not functions:
        inside = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        hidden |= {id(node) for block in ast.walk(tree) if isinstance(block, inside) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) not in hidden:
            yield from _imported_by(node)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _imported_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        yield from (word.value for word in node.args[:1] if isinstance(word, ast.Constant) and isinstance(word.value, str))


def module_graph(known: Mapping[str, Path], *, functions: bool) -> dict[str, list[str]]:
    """Return the modules that each module imports; of ``a.b.c`` the longest part that is a module."""
    return {name: sorted(set(_targets(known, imported(path, functions=functions))) - {name}) for name, path in known.items()}


def _targets(known: Mapping[str, Path], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        for module in (name, name.rpartition(".")[0]):
            if module in known:
                yield module
                break


def without_cycles(graph: Mapping[str, Iterable[str]]) -> tuple[dict[str, list[str]], list[list[str]]]:
    """Return the graph less one import of each cycle, and the cycles that this broke."""
    left, cycles = {name: list(targets) for name, targets in graph.items()}, []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            # The list of a cycle begins and ends with the same module, and each is imported by the one after it.
            cycle = error.args[1]
            cycles.append(cycle)
            left[cycle[1]].remove(cycle[0])
        else:
            return left, cycles


def chain(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the longest chain of imports, the importing module first; each cycle is cut once."""
    left, _ = without_cycles(graph)
    longest: dict[str, list[str]] = {}
    for name in TopologicalSorter(left).static_order():
        longest[name] = [name, *max((longest[target] for target in left[name]), key=len, default=[])]
    return max(longest.values(), key=len, default=[])


# Sizes.


def long_files(folder: Path) -> dict[str, int]:
    """Return the files of Python and C that are too long, with their lines."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sorted(folder.rglob("*")) if path.suffix in SOURCE}
    return {str(path.relative_to(folder.parent)): count for path, count in lines.items() if count > LINES}


def crowded(folder: Path, most: int) -> dict[str, int]:
    """Return the folders that hold too many files, with their number; what a build leaves there is not counted."""
    counts = Counter(path.parent for path in folder.rglob("*") if path.is_file() and not _is_built(path))
    return {str(one.relative_to(folder.parent)): count for one, count in sorted(counts.items()) if count > most}


def _is_built(path: Path) -> bool:
    return path.suffix in BUILT or path.parent.name.endswith((".egg-info", "_cache"))


def code_lines(path: Path) -> tuple[int, int]:
    """Return how many lines hold code (no blanks, comments, docstrings), and how many hold a comment."""
    text = path.read_text(encoding="utf-8")
    return _python_lines(text) if path.suffix == ".py" else _c_lines(text)


_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}
_FOR_TOOLS = ("# noqa", "# type:", "#!")


def _python_lines(text: str) -> tuple[int, int]:
    # Also the strings below an attribute: whatever is a statement by itself is a docstring.
    strings = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    docstrings = {
        line for node in strings if isinstance(node.value.value, str) for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    code, comments = set(), set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(_FOR_TOOLS):
            comments.add(token.start[0])
        elif token.type not in _NO_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings), len(comments)


_C_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|(?P<comment>/\*.*?\*/|//[^\n]*)', re.DOTALL)


def _c_lines(text: str) -> tuple[int, int]:
    def blank(found: re.Match[str]) -> str:
        return "\n" * found[0].count("\n") if found["comment"] else found[0]

    comments = sum(found[0].count("\n") + 1 for found in _C_TOKEN.finditer(text) if found["comment"])
    return sum(bool(line.strip()) for line in _C_TOKEN.sub(blank, text).splitlines()), comments


# Names.


def named_as_functions(known: Mapping[str, Path]) -> list[str]:
    """Return the modules that bear the name of something else that their package makes public: one hides the other."""
    clashes = []
    for package, path in known.items():
        if path.name != "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module != package:
                names = [alias.asname or alias.name for alias in node.names]
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            clashes += [module for name in names if (module := f"{package}.{name}") in known]
    return sorted(set(clashes))


def _rules(path: Path) -> int:
    """Return how many rules the boundary test has: what it decorates as one; in older checkouts its tests and the rows of their tables."""
    if not path.exists():
        return 0
    body = ast.parse(path.read_text(encoding="utf-8")).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    rules = [node for node in functions if any(ast.unparse(one).startswith("rule(") for one in node.decorator_list)]
    tests = [node for node in functions if node.name.startswith("test_")]
    rows = sum(len(node.value.keys) for node in body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict))
    return len(rules) or len(tests) + rows


# All together.


def measure(root: Path) -> dict[str, Any]:
    """Return every number of a checkout as plain data."""
    core = modules(root / "interop")
    suite_folder = root / "conformance" / "interop_conformance"
    suite = modules(suite_folder if suite_folder.exists() else root / "conformance")
    graphs = {functions: module_graph(core, functions=functions) for functions in (False, True)}
    packages: dict[str, dict[str, int]] = defaultdict(lambda: {"files": 0, "code": 0, "comments": 0})
    for path in sorted((root / "interop").rglob("*")):
        if path.suffix in SOURCE:
            code, comments = code_lines(path)
            row = packages[".".join(path.parent.relative_to(root).parts)]
            row["files"], row["code"], row["comments"] = row["files"] + 1, row["code"] + code, row["comments"] + comments
    code, comments = (sum(row[key] for row in packages.values()) for key in ("code", "comments"))
    return {
        "chain": chain(graphs[False]),
        "chain_with_functions": chain(graphs[True]),
        "cycles": without_cycles(graphs[True])[1] + without_cycles(module_graph(suite, functions=True))[1],
        "crowded_folders": {name: count for top, most in FILES.items() for name, count in crowded(root / top, most).items()},
        "long_files": {name: count for top in ("interop", "conformance") for name, count in long_files(root / top).items()},
        "code_lines": code,
        "comment_density": round(comments / code, 3) if code else 0.0,
        "named_as_functions": named_as_functions(core),
        "boundary_rules": _rules(root / "tests" / "test_boundaries.py"),
        "packages": dict(packages),
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the numbers of a checkout; always returns 0, because what is too much is for the boundary test to say."""
    parser = argparse.ArgumentParser(prog="python -m tools.count", description="The numbers of the structure, read from the files.")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="the checkout; default: this one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    if not (given.root / "interop").is_dir():
        parser.error(f"{given.root} holds no package interop")
    numbers = measure(given.root)
    if given.json:
        print(json.dumps(numbers, indent=2))
    else:
        print("\n".join(_lines(numbers)))
    return 0


def _lines(numbers: Mapping[str, Any]) -> Iterator[str]:
    for key, inside, functions in (("chain", "without", False), ("chain_with_functions", "with", True)):
        yield f"longest chain of imports, {inside} those inside functions: {len(numbers[key])} (at most {CHAIN[functions]})"
        yield f"  {' -> '.join(numbers[key])}"
    yield f"cycles: {len(numbers['cycles'])}"
    yield from (f"  {' <- '.join(cycle)}" for cycle in numbers["cycles"])
    limits = ", ".join(f"{top} {most}" for top, most in FILES.items())
    for key, title in (("crowded_folders", f"folders with too many files ({limits})"), ("long_files", f"files of more than {LINES} lines")):
        yield f"{title}: {len(numbers[key])}"
        yield from (f"  {name} {count}" for name, count in numbers[key].items())
    yield f"modules with the name of a public function: {len(numbers['named_as_functions'])}"
    yield from (f"  {name}" for name in numbers["named_as_functions"])
    yield f"rules of the boundary test: {numbers['boundary_rules']}"
    yield f"lines of code in interop: {numbers['code_lines']}; comments for each: {numbers['comment_density']}"
    yield from (f"  {name}: {row['code']} in {row['files']} files" for name, row in numbers["packages"].items())


if __name__ == "__main__":
    sys.exit(main())
