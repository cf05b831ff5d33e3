"""Who may import whom: the pure part knows no library, and importing interop loads none. Read from the imports."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import interop

ROOT = Path(interop.__file__).parent
LIBRARIES = {"numpy", "torch", "cupy", "jax", "jaxlib", "array_api_strict", "ml_dtypes", "array_api_compat", "optree"}
# Each room may import itself and those named; everything not named is a room of its own.
PURE = ["errors", "policy", "dtypes", "description", "capabilities", "plan", "steps", "decide", "spec", "_spec_words"]
ALLOWED = {
    "scope": set(),
    **{room: {*PURE, "scope"} for room in PURE},
    "dlpack": {"description"},
    "execute": {"description", "plan", "backends"},
    "quick": {"policy", "scope", "backends"},
    "backends": {"errors", "policy", "dtypes", "description", "capabilities", "dlpack", "quick", "scope", "backends"},
    "ledger": {"policy", "scope", "backends"},
    "_transfer": {"errors", "plan"},
    "calls": {"_transfer", "errors", "policy", "dtypes", "description", "plan", "decide", "execute", "ledger", "backends"},
    "convert": {"calls", "backends", "description", "plan", "policy", "quick"},
    "_containers": {"description", "errors"},
    "_nodes": {"_containers", "_walk", "backends", "quick"},
    "_walk": {"_containers", "backends", "quick"},
    "_tree_plan": {"policy"},
    "_batch": {"_tree_plan", "calls", "ledger", "backends", "description", "errors", "plan", "quick", "scope"},
    "tree": {"_batch", "_nodes", "_tree_plan", "calls", "backends", "description", "policy"},
    "namespace": {"_nodes", "backends", "errors"},
    "_shape": {"namespace", "errors"},
    "_brought": {"_batch", "_nodes", "_shape", "namespace", "calls", "backends", "description", "policy"},
    "_bridge": {"_brought", "autograd", "namespace", "backends", "errors"},
    "decorate": {"_bridge", "_brought", "_shape", "namespace", "policy"},
    "autograd": {"_batch", "_nodes", "_shape", "namespace", "calls", "backends", "dtypes", "errors", "policy", "quick", "scope"},
    "_cuda_state": {"backends", "cuda", "description"},
    "_sized": set(),
    "cuda": {"_sized", "backends", "description", "errors"},
    "testing": {"_nodes", "autograd", "convert", "ledger", "backends", "description", "dtypes", "errors", "policy"},
}


def imports(path):
    """Return the dotted names that a file imports, wherever in it; those for types only are marked."""
    tree = ast.parse(path.read_text())
    typing = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in typing


def room_of(name):
    return name.split(".")[1] if name.startswith("interop.") else None


FILES = sorted(ROOT.rglob("*.py"))


# What is no array library itself, and the one file that needs it; on request, as `import interop` loads neither.
HELPERS = {"_nodes.py": {"optree"}, "_walk.py": {"optree"}, "namespace.py": {"array_api_compat"}}


def own_libraries(path):
    """Return what a backend's files may import: their library, NumPy, and what makes a namespace of a library."""
    stem = path.stem.lstrip("_")
    return {name for name in LIBRARIES if f"{stem}_".startswith(f"{name}_")} | {"numpy", "ml_dtypes", "array_api_compat"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_array_libraries_are_imported_in_backends_only(path):
    if path.parent.name == "backends":
        found = {name.partition(".")[0] for name, _ in imports(path)} & LIBRARIES
        assert found <= own_libraries(path), f"{path.name} knows about {found - own_libraries(path)}"
    else:
        found = {name.partition(".")[0] for name, typing in imports(path) if not typing} & LIBRARIES
        assert found <= HELPERS.get(path.name, set())


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_what_they_may(room):
    paths = [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).glob("*.py"))
    assert paths
    for path in paths:
        found = {room_of(name) for name, typing in imports(path) if not typing} - {None, room}
        assert found <= ALLOWED[room], f"{path.name} imports {found - ALLOWED[room]}"


@pytest.mark.parametrize(
    ("name", "library"),
    [("torch", "torch"), ("_torch_kinds", "torch"), ("_jax_memory", "jax"), ("array_api_strict", "array_api_strict"), ("_base", None)],
)
def test_a_backend_knows_its_own_library(name, library):
    assert own_libraries(ROOT / f"{name}.py") - {"numpy", "ml_dtypes", "array_api_compat"} == ({library} if library else set())


def test_the_check_sees_an_import_inside_a_function(tmp_path):
    """The negative control."""
    file = tmp_path / "sly.py"
    file.write_text("def f():\n    import torch.nn\n    from numpy import array\n")
    assert [name for name, _ in imports(file)] == ["torch.nn", "numpy"]


def test_every_package_is_shipped():
    declared = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {".".join(path.parent.relative_to(ROOT.parent).parts) for path in ROOT.rglob("__init__.py")}
    assert there <= set(declared)


def loaded_after(statement):
    code = f"{statement}\nimport sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_interop_imports_no_array_library():
    assert not loaded_after("import interop, interop.notation, interop.errors") & LIBRARIES
    assert "numpy" in loaded_after("import interop; interop.load = interop.convert; import numpy")  # the negative control


def test_a_backend_is_loaded_only_when_it_is_met():
    loaded = loaded_after("import numpy, interop; interop.describe(numpy.ones(2)); interop.to_numpy(numpy.ones(2))")
    assert not loaded & {"torch", "cupy", "jax", "array_api_strict"}
    assert "interop.backends.numpy.backend" in loaded


def is_private_import(node):
    """Whether a public module hands on what one of interop's private ones defines."""
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith("interop._")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_all_names_what_is_public(path):
    tree = ast.parse(path.read_text())
    named = next(
        (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"), None
    )
    if named is None:
        return
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert len(named) == len(set(named))
    if path.name != "__init__.py":
        names = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        handed_on = {alias.name for node in tree.body if is_private_import(node) for alias in node.names}
        assert set(named) <= defined | names | handed_on


# The conformance suite stands on interop, never the other way round, and knows the libraries in its adapters only.

SUITE = ROOT.parent / "conformance"
SUITE_FILES = sorted(SUITE.rglob("*.py"))
FOREIGN = LIBRARIES - {"numpy", "ml_dtypes"} | {"tvm_ffi", "pyarrow"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_interop_does_not_know_the_suite(path):
    assert "conformance" not in {name.partition(".")[0] for name, _ in imports(path)}


@pytest.mark.parametrize("path", SUITE_FILES, ids=lambda path: str(path.relative_to(SUITE)))
def test_the_suite_knows_libraries_in_its_adapters_only(path):
    found = {name.partition(".")[0] for name, typing in imports(path) if not typing} & FOREIGN
    own = path.stem.lstrip("_").partition("_")[0] if path.parent.name == "adapters" else ""
    # What the two libraries that compute on a CUDA device share stands in one file.
    allowed = {"torch", "cupy"} if own == "cuda" else {name for name in FOREIGN if name.partition("_")[0] == own}
    assert found <= allowed, f"{path.name} knows about {found - allowed}"


def test_listing_the_cases_imports_no_array_library_but_numpy():
    loaded = loaded_after(
        "from interop_conformance.selection import all_cases; from interop_conformance.adapters import load_adapters; list(all_cases(load_adapters()))"
    )
    assert not loaded & FOREIGN
    assert "interop_conformance.matrix.handoff" in loaded
