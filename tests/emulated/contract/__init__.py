"""What CUDA promises, function by function: the tests call the runtime, the driver and NVML through ctypes.

They run on the emulated device (tests/cuda/test_emulated.py) and, unchanged, on a GPU (``make gpu``): that is how it is known whether the
emulation is true. Each test is of one function, `of` names which; tests/cuda/test_emulated_contract.py holds the list to be whole.
"""
