"""Trees: containers taken apart into their leaves, and rebuilt around others."""
