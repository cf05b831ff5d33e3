"""The compiled half of the fast paths and of trees, where it is installed and fits this version."""

from __future__ import annotations

import importlib
from typing import Any

BUILD = 13
"""Says that the compiled module fits `interop._engine.fastpath`; counted up with every change of what passes between them."""

compiled: Any
try:
    compiled = importlib.import_module("interop.native.fastpath")
except ImportError:  # an installation without a compiler: the Python code does the same
    compiled = None
if getattr(compiled, "BUILD", None) != BUILD:  # left over from another version of this folder
    compiled = None
