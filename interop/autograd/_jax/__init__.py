"""JAX's derivatives in torch's graph, and torch's functions in JAX."""
