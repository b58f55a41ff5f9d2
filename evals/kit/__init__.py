"""Building an evaluation's repository, reading what became of it, and grading it."""
