"""The handoff layer: libraries, dtypes, layouts, states and sources."""
