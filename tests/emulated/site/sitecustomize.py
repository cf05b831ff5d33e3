"""Gives a Python process the emulated device: after CuPy's runtime, CuPy and torch are imported, and not before; see ../surroundings.py.

Python imports this module by itself where its folder is on ``PYTHONPATH``. It imports nothing that Python has not imported by then, so that
a process without these libraries pays nothing. A sitecustomize that is further down the path is run too, in its own name.
"""

import os
import sys
from _frozen_importlib_external import PathFinder

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would be imported in every process
PACKAGE = "interop_emulated"
"""What the package above is called here: a process may have another one that is called ``tests``."""

HOOKS = {"cupy_backends.cuda.api.runtime": "redirect_cupy", "cupy": "install_kernels", "torch": "install_operators"}
"""What is called after a module was imported, in the package's `installing`."""


class Finder:
    """Finds the modules of `HOOKS` as Python does, and has their hooks called when they were executed."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name in HOOKS else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _hook(HOOKS[name])(module)

            spec.loader.exec_module = exec_module
        return spec


def _hook(name):
    import importlib.util

    if PACKAGE not in sys.modules:
        folder = os.path.dirname(HERE)  # noqa: PTH120
        where = os.path.join(folder, "__init__.py")  # noqa: PTH118
        spec = importlib.util.spec_from_file_location(PACKAGE, where, submodule_search_locations=[folder])
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACKAGE])
    return getattr(importlib.import_module(f"{PACKAGE}.installing"), name)


def _run_the_next():
    """Run the sitecustomize that Python would have found without this one."""
    elsewhere = [path for path in sys.path if os.path.abspath(path or os.curdir) != HERE]  # noqa: PTH100
    spec = PathFinder.find_spec(__name__, elsewhere)
    if spec is None or spec.loader is None:
        return
    import importlib.util

    sys.modules[__name__] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[__name__])


if __name__ == "sitecustomize":
    if os.environ.get("INTEROP_EMULATED_LIBRARY"):
        sys.meta_path.insert(0, Finder)
    _run_the_next()
