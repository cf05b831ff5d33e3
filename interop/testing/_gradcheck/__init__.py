"""The checks of gradcheck: against numerical derivatives, and against other runs."""
