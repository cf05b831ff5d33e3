"""CuPy itself, as it is installed, on a CUDA runtime that is emulated on the processor; see runtime.cpp.

These tests run in a process of their own (tests/test_emulated_cuda.py), because everything in it believes in the device. They show in
which order CuPy is asked for what, and whether the data are right if the device is slow. They do not show that a GPU does the same.
"""
