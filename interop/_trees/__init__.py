"""Trees: containers flattened into their leaves, and rebuilt with others."""
