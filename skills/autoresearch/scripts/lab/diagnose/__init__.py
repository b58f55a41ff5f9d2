"""From the curves and verdicts of a campaign to ranked causes: tables of checks, pure functions."""
