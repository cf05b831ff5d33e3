"""torch's graph and dispatcher: autograd functions, operators and their schemas."""
