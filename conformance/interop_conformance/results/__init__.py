"""Results: records and outcomes, the files that hold them, what is known of them, and how two runs differ."""
