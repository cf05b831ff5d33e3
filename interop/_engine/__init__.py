"""A call of a public verb: its keywords resolved, its plan made and executed; many at once; and the fast path before all that."""
