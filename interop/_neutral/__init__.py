"""Neutral functions: one function for the arrays of every library."""
