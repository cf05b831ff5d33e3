"""What the project's own runs need, and its users do not."""
