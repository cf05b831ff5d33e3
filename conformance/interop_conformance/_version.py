"""The version, alone, so that the build can read it without importing anything else; it is that of array-interop."""

__version__ = "0.1.0"
