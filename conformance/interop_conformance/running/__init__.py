"""How cases are run: each in its own process, so that a crash or a hang is contained."""
