"""The rules for consumers."""
