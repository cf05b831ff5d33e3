"""array-api-strict as a backend."""
