"""Telling people: what is due, where it goes, and the one process that delivers it."""
