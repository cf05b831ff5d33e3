"""Apache Arrow's arrays, as a source."""
