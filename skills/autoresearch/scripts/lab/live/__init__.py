"""The live view: what a run shows of itself on its way, on a terminal and in a browser."""
