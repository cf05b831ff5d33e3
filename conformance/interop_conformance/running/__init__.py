"""How cases are run: each in a process that a crash or a hang costs alone."""
