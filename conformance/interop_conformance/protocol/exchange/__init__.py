"""The rules of the C exchange API."""
