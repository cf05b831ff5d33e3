"""What an array is, what may be done with it, and what has to be done: pure, without any array library."""
