"""A table of the rounds for the drivers."""

import csv
import sys


def write(rows, out=sys.stdout):
    """Write one line for each stop: day, place in the round, coordinates."""
    writer = csv.writer(out)
    writer.writerow(["day", "place", "x", "y"])
    writer.writerows(rows)
