"""Records of crossings and guards against them; and, by library, guards against what goes past interop."""
