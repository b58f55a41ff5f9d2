"""Runs that a person executes on a machine of theirs: asked for, described, taken back."""
