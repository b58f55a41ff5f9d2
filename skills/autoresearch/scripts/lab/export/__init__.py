"""A campaign handed to other programs: event files, trackers, tables."""
