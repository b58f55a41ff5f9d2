"""The morning page: facts of a campaign in, text out."""
