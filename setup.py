"""The compiled parts, both optional; everything else about the build stands in pyproject.toml."""

import sys

import numpy as np
from setuptools import Extension, setup

# torch takes an allocator from a shared library on Unix only (torch.cuda.memory.CUDAPluggableAllocator).
POOL = Extension(
    "interop.native.async_pool",
    ["interop/native/async_pool.c"],
    libraries=["dl", "pthread"],
    extra_compile_args=["-O2"],
    optional=True,
)

setup(
    ext_modules=[
        # optional: without a compiler the installation goes on, and interop does the same in Python.
        Extension(
            "interop.native.fastpath",
            [f"interop/native/{name}.c" for name in ("module", "guarded", "verb", "leaves", "flatten", "unflatten")],
            depends=[f"interop/native/{name}.h" for name in ("fastpath", "calls", "containers")],
            include_dirs=[np.get_include()],
            # Explicit: a CFLAGS in the environment replaces Python's own, and without -O the C is slower than Python. Hidden,
            # so that the files call each other directly, and no other library's function of the same name instead.
            extra_compile_args=[] if sys.platform == "win32" else ["-O3", "-fvisibility=hidden"],
            optional=True,
        ),
        Extension(
            "interop.native.lend", ["interop/native/lend.c"], extra_compile_args=[] if sys.platform == "win32" else ["-O2"], optional=True
        ),
        *([] if sys.platform == "win32" else [POOL]),
    ],
)
