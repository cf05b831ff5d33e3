"""What is compiled; each module is optional, and has a twin in Python or a feature that is off without it."""
