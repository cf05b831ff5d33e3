"""CUDA without a GPU: a runtime that is emulated on the processor, with which CuPy and torch run as they are installed.

`surroundings.environment` returns the variables with which a process and its children have it. It shows in which order CUDA is called for
what, and whether the data are right if the device is slow. It does not show that a GPU does the same, and no speed (limits.toml).

- runtime/: the emulated functions in C++, each with a sentence of what CUDA promises and what is not emulated
- contract/: tests of these promises, which run on a GPU too and show there whether the emulation is true
- with_cupy/: tests of interop with CuPy on the emulated device
- test_*.py: tests of the emulation itself

All of them run in processes of their own (tests/cuda/test_emulated.py): the emulation replaces CUDA in the whole process.
"""
