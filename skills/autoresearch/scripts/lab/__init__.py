"""What the command line stands on: facts, decisions, git, runs and the record of a campaign."""
