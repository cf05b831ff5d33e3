"""CuPy on the emulated device: order, lifetime, and what is called, for interop's own code."""
