"""The rules of the structure: who may import whom, who knows a library, what is shipped, and how large things get.

A rule takes a checkout and returns what breaks it. Each is tried twice: on this checkout, where nothing may, and (the
negative control) on a made-up one that has a single fault. No rule names a file: `ORDER` is the one list, of packages and
of the modules beside them, and every rule about imports inside `interop` follows from it.
"""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatchcase

import pytest

from interop._libraries import BUILTIN
from tools import count

ORDER = [
    *("_version", "errors", "_untraced", "_model", "dlpack", "_libraries", "_vocabulary", "notation", "native"),
    *(
        "backends.shortcut",
        "backends.units",
        "backends.advice",
        "backends.cuda",
        "backends.base",
        "backends.numpy",
        "backends.producers",
        "backends.dlpack",
        "backends.array_api",
        "backends.*",
        "backends",
    ),
    *("_watch", "_engine", "_trees", "_verbs", "tree", "autograd", "_neutral"),
    *("cuda", "testing", "doctor", "cli", "_command", "__main__", ""),
]
"""What is in `interop`, bottom first; an import goes to an earlier entry, also one inside a function.

``backends.*`` stands for each other library's folder, and these do not know each other. ``backends`` alone is the registry, which loads
them by name; the empty entry is the package itself.
"""

PURE = ("_model", "errors", "dlpack")
LIBRARIES = tuple(BUILTIN)


def homes(*libraries):
    return [pattern.format(name) for name in libraries for pattern in ("backends/{}/*", "autograd/_{}/*", "_watch/{}.py")]


MAY_IMPORT = {
    **{library: homes(library) for library in LIBRARIES},
    "torch": [*homes("torch"), "testing/_gradcheck/*"],
    "cupyx": homes("cupy"),
    "jaxlib": homes("jax"),
    "pyarrow": homes("pyarrow"),
    # Every backend needs NumPy, and what makes dtypes and a namespace of a library.
    **dict.fromkeys(("numpy", "ml_dtypes"), homes(*LIBRARIES, "pyarrow")),
    "array_api_compat": [*homes(*LIBRARIES), "_neutral/*"],
    "optree": ["_trees/*"],
}
"""The files of `interop` that import a library."""

FOREIGN = {"torch", "cupy", "cupyx", "jax", "jaxlib", "array_api_strict", "array_api_compat", "optree", "pyarrow", "tvm_ffi"}
"""What the suite imports in an adapter only; NumPy is its measure, and everywhere."""


# How a checkout is read.


def core(root):
    return count.modules(root / "interop")


def suite(root):
    return count.modules(root / "conformance" / "interop_conformance")


def entry_of(module):
    """Return the entry of the order that a module of interop belongs to."""
    parts = module.split(".")[1:]
    if parts[:1] == ["backends"] and len(parts) > 1:
        return ".".join(parts[:2]) if ".".join(parts[:2]) in ORDER else "backends.*"
    return parts[0] if parts else ""


def outside(path, libraries):
    """Return the libraries that a file imports, wherever in it."""
    return sorted({name.partition(".")[0] for name in count.imported(path)} & set(libraries))


def words(tree):
    """Return the identifiers and the strings of a file, less its docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        yield from (str(value) for field, value in ast.iter_fields(node) if field in {"id", "attr", "name", "arg", "module"})


def bound(tree, *, package):
    """Return the names that a module defines, or makes public for another of ours; a package may do so with all that it imports."""
    blocks = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.If))]
    for node in (node for block in blocks for node in block):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from (one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))
        elif isinstance(node, ast.ImportFrom) and (package or (node.module or "").partition(".")[0] in {"interop", "interop_conformance"}):
            yield from (alias.asname or alias.name for alias in node.names)


# The rules.

RULES = {}


def rule(*faults):
    """Make a function a rule; `faults` are what breaks it in a sound checkout, each as path: text."""

    def add(check):
        RULES[check.__name__] = (check, faults)
        return check

    return add


@rule(
    {"interop/_model/plan.py": "def later():\n    from interop.backends import base\n"},
    {"interop/_model/plan.py": "import importlib\nimportlib.import_module('interop.backends')\n"},
    {"interop/backends/torch/a.py": "from interop.backends.jax import b\n", "interop/backends/jax/b.py": ""},
    {"interop/newcomer.py": ""},
)
def an_import_goes_to_an_earlier_entry(root):
    for name, targets in count.module_graph(core(root), functions=True).items():
        ours = entry_of(name)
        if ours not in ORDER:
            yield f"{name} has no place in the order"
            continue
        for target in targets:
            theirs = entry_of(target)
            inside = ours == theirs and (ours != "backends.*" or name.split(".")[:3] == target.split(".")[:3])
            if not inside and theirs not in ORDER[: ORDER.index(ours)]:
                yield f"{name} imports {target}"


@rule(
    {"interop/backends/jax/a.py": "def later():\n    from torch import nn\n"},
    {"interop/_trees/a.py": "import torch.nn\n"},
    {"interop/_engine/a.py": "import numpy\n"},
    {"interop/_engine/a.py": "from importlib import import_module\nimport_module('cupy')\n"},
)
def a_library_is_imported_in_its_own_files(root):
    for path in core(root).values():
        place = path.relative_to(root / "interop").as_posix()
        for library in outside(path, MAY_IMPORT):
            if not any(fnmatchcase(place, pattern) for pattern in MAY_IMPORT[library]):
                yield f"{place} imports {library}"


@rule({"interop/_model/a.py": "x = 'a torch.Tensor'\n"}, {"interop/errors.py": "def f(numpy_array): ...\n"})
def what_is_pure_names_no_library(root):
    library = re.compile(rf"(?<![a-z])(?:{'|'.join(LIBRARIES)})", re.IGNORECASE)  # at the start of a word: a "rack" is not in "tracked"
    for name, path in core(root).items():
        if entry_of(name) in PURE:
            found = [word for word in words(ast.parse(path.read_text())) if library.search(word)]
            yield from (f"{name} names {word!r}" for word in found)


@rule({"interop/cli/a.py": "def later():\n    import interop_conformance.selection\n"}, {"interop/tree.py": "from tools import count\n"})
def interop_imports_nothing_that_stands_beside_it(root):
    beside = {"interop_conformance", "conformance", "tests", "tools", "benchmarks", "docs", "examples"}
    yield from (f"{name} imports {found}" for name, path in core(root).items() for found in outside(path, beside))


@rule(
    {"conformance/interop_conformance/running/a.py": "def later():\n    import torch\n"},
    {"conformance/interop_conformance/adapters/jax.py": "import torch\n"},
)
def the_suite_imports_a_library_in_its_adapter_only(root):
    for name, path in suite(root).items():
        for library in outside(path, FOREIGN):
            # What the two libraries that compute on a CUDA device share belongs to both.
            owners = [library, *(["cuda"] if library in {"torch", "cupy"} else [])]
            if not any(fnmatchcase(name, f"*.adapters.{mark}{owner}*") for owner in owners for mark in ("", "_")):
                yield f"{name} imports {library}"


@rule({"interop/_trees/more/a.py": ""}, {"conformance/interop_conformance/more/a.py": ""})
def every_folder_of_modules_is_a_package(root):
    """Only packages are found, and so shipped."""
    for folder in (root / "interop", root / "conformance" / "interop_conformance"):
        yield from {f"{path.parent}" for path in folder.rglob("*.py") if not (path.parent / "__init__.py").exists()}


@rule(
    {"interop/a.py": "__all__ = ['gone']\n"},
    {"interop/a.py": "__all__ = ['f', 'f']\ndef f(): ...\n"},
    {"interop/a.py": "from os import path\n__all__ = ['path']\n"},
    {"interop/_model/a.py": "__all__ = ['f']\ndef f(): ...\n"},
)
def all_stands_in_public_modules_and_names_what_is_there(root):
    private = re.compile(r"interop\..*\b_(?!_)|interop\.backends\.(?!base)\w+\.")
    for name, path in (core(root) | suite(root)).items():
        tree = ast.parse(path.read_text())
        values = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
        named = [word for value in values for word in ast.literal_eval(value)]
        yield from [f"{name} is private, and has __all__"] * bool(named and private.match(name))
        yield from (f"{name}: {word} twice" for word in set(named) if named.count(word) > 1)
        yield from (f"{name}: {word} is not there" for word in set(named).difference(bound(tree, package=path.name == "__init__.py")))


@rule(
    {"interop/__init__.py": "from interop.tree import tree\n"},
    {"interop/backends/__init__.py": "def base(): ...\n"},
)
def no_module_bears_the_name_of_a_public_function(root):
    yield from count.named_as_functions(core(root))


@rule(
    {"interop/_model/a.py": "x = 1\n" * (count.LINES + 1)},
    {"interop/native/a.c": "int x;\n" * (count.LINES + 1)},
    {f"interop/cli/c{number}.py": "" for number in range(count.FILES["interop"] + 1)},
    {f"tests/cli/test_{number}.py": "" for number in range(count.FILES["tests"] + 1)},
)
def files_and_folders_stay_small(root):
    for folder, most in count.FILES.items():
        yield from count.crowded(root / folder, most).items()
    for folder in ("interop", "conformance"):
        yield from count.long_files(root / folder).items()


TEXT = "this array has gone to another place"


@rule(
    {"interop/_model/a.py": f"raise TypeError('{TEXT}')\n", "interop/tree.py": f"raise ValueError('{TEXT}')\n"},
    {"interop/_model/a.py": f"raise TypeError(f'{{x}}: {TEXT}.')\nraise TypeError(f'{{x}} and {{y}}: {TEXT}.')\n"},
)
def every_text_stands_once(root):
    """What is said in an error or a hint; docstrings are none."""
    places = {}
    for name, path in core(root).items():
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                places.setdefault(node.value.strip(" .:;,"), []).append(f"{name}:{node.lineno}")
    yield from (f"{text!r}: {', '.join(at)}" for text, at in places.items() if len(at) > 1 and len(text) > 28 and " " in text)


def in_a_row(number, text):
    return {f"interop/_model/m{position}.py": text.format(position + 1) for position in range(number)}


@rule(
    in_a_row(count.CHAIN[False] + 1, "import interop._model.m{}\n"),
    in_a_row(count.CHAIN[True] + 1, "def later():\n    import interop._model.m{}\n"),
)
def the_longest_chain_of_imports_is_short(root):
    for functions, most in count.CHAIN.items():
        found = count.chain(count.module_graph(core(root), functions=functions))
        if len(found) > most:
            yield " -> ".join(found)


@rule(
    {"interop/_model/a.py": "import interop._model.b\n", "interop/_model/b.py": "def later():\n    from interop._model import a\n"},
    {
        "conformance/interop_conformance/__init__.py": "import interop_conformance.a\n",
        "conformance/interop_conformance/a.py": "import interop_conformance\n",
    },
)
def no_import_goes_in_a_circle(root):
    for found in (core(root), suite(root)):
        yield from (" <- ".join(cycle) for cycle in count.without_cycles(count.module_graph(found, functions=True))[1])


@pytest.mark.parametrize("name", RULES)
def test_the_rule_holds(name):
    assert list(RULES[name][0](count.ROOT)) == []


SOUND = {
    "interop/__init__.py": "from interop._model.policy import policy\n__all__ = ['policy', 'tree']\nif TYPE_CHECKING:\n    from interop import tree\n",
    "interop/tree.py": "if TYPE_CHECKING:\n    import torch, interop_conformance, interop.cli\n",
    "interop/_model/__init__.py": '"""Says torch in its docstring."""\n',
    "interop/_model/policy.py": "def policy(): ...\n",
    "interop/backends/__init__.py": "",
    "interop/backends/base.py": "from interop._model import policy\n",
    "conformance/interop_conformance/__init__.py": "import numpy, interop\n",
    "tests/test_a.py": "",
}
"""A checkout in which every rule holds."""


def checkout(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("name", RULES)
def test_the_rule_can_fail(name, tmp_path):
    """The negative control: a sound checkout, then each fault by itself."""
    check, faults = RULES[name]
    assert list(check(checkout(tmp_path / "sound", SOUND))) == []
    assert faults
    for number, fault in enumerate(faults):
        assert list(check(checkout(tmp_path / str(number), SOUND | fault))), fault


# What a process has loaded, which no file shows.


def loaded_after(statement):
    code = f"{statement}\nimport sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_interop_imports_no_array_library():
    assert not loaded_after("import interop, interop.notation, interop.errors") & set(MAY_IMPORT)
    assert "numpy" in loaded_after("import interop; interop.load = interop.convert; import numpy")  # the negative control


def test_a_backend_is_loaded_only_when_it_is_met():
    loaded = loaded_after("import numpy, interop; interop.describe(numpy.ones(2)); interop.to_numpy(numpy.ones(2))")
    assert not loaded & {"torch", "cupy", "jax", "array_api_strict"}
    assert "interop.backends.numpy.backend" in loaded


def test_listing_the_cases_imports_no_array_library_but_numpy():
    loaded = loaded_after(
        "from interop_conformance.selection import all_cases; from interop_conformance.adapters import load_adapters; list(all_cases(load_adapters()))"
    )
    assert not loaded & FOREIGN
    assert "interop_conformance.matrix.handoff" in loaded
