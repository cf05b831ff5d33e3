"""CUDA without a GPU: a runtime that is emulated on the processor (runtime/), with which CuPy and torch run as they are installed.

`surroundings.environment` returns the variables with which a process and its children have it. What it shows is in which order CUDA is
asked for what, and whether the data are right if the device is slow; not that a GPU does the same, and no speed (limits.toml).

The tests here run in a process of their own (tests/cuda/test_emulated.py), because everything in it believes in the device.
"""
