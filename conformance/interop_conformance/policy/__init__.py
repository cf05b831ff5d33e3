"""The policy layer: the permission table over described arrays."""
