"""The rules for producers."""
