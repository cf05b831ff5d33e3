"""A library from outside: one file and an entry point, and it is a backend like the others."""

import subprocess
import sys
import textwrap

TOY = """
import numpy as np
from interop import Description
from interop.backends.base import Backend
from interop._model.capabilities import Capabilities

class Toy:
    "An array library of one class, on NumPy's memory."
    def __init__(self, data):
        self.data = data

class ToyBackend(Backend):
    capabilities = Capabilities(name="toy", title="Toy", dtypes=frozenset({"float32", "float64"}), devices=frozenset({"cpu"}))

    def owns(self, x):
        return isinstance(x, Toy)

    def describe(self, x):
        strides = tuple(step // x.data.itemsize for step in x.data.strides)
        pointer = x.data.__array_interface__["data"][0]
        return Description(backend="toy", type="toy.Toy", shape=x.data.shape, dtype=x.data.dtype.name, strides=strides, pointer=pointer)

    def copy(self, x):
        return Toy(x.data.copy())

    def cast(self, x, dtype):
        return Toy(x.data.astype(dtype))

    def host_view(self, x):
        return x.data

    def from_host(self, view):
        return Toy(view)

backend = ToyBackend()
"""

USE = """
import numpy as np, torch, interop, toy
from interop.backends import backend_names

assert "toy" in backend_names()
made = interop.convert(torch.ones(3), "toy")
assert type(made) is toy.Toy and interop.shares_memory(interop.to_torch(made), made)
assert interop.convert(np.ones(3)[::-1], toy).data.strides == (8,)  # it said nothing of negative strides: copied
assert interop.convert(made, like=made) is made
assert interop.convert(np.ones(2, "int8"), "toy", casting="safe").data.dtype == "float32"
try:
    interop.convert(torch.ones(3, requires_grad=True), "toy", copy=False)
except interop.GradError as error:
    print(error.permissions)
print(interop.explain(made, "torch"))
"""


def test_an_entry_point_makes_a_backend(tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    info = tmp_path / "toy_interop-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-interop\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[interop.backends]\ntoy = toy:backend\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{textwrap.dedent(USE)}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == "{'grad': 'detach'}"
    assert "toy.Toy float32[3] on cpu -> torch float32 on cpu: shares memory" in ran.stdout


def test_without_the_entry_point_it_is_unknown(tmp_path):
    """The negative control."""
    (tmp_path / "toy.py").write_text(TOY)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport interop, toy, numpy\ninterop.convert(numpy.ones(2), 'toy')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ValueError: 'toy' is not a backend" in ran.stderr


def test_the_names_for_authors_are_there_and_import_no_library():
    code = """
import sys
from interop.backends import Backend, Capabilities, Description, Device, KnownIssue, Shortcut
import interop.backends
assert "numpy" not in sys.modules
assert interop.backends.ArrayAPIBackend and "numpy" in sys.modules  # which needs it
assert {"Backend", "ArrayAPIBackend", "Capabilities", "load_backend"} <= set(dir(interop.backends))
assert not any(name.startswith("_") for name in dir(interop.backends))
interop.backends.Bakcend
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "AttributeError: module 'interop.backends' has no attribute 'Bakcend'" in ran.stderr
    assert "AssertionError" not in ran.stderr
