"""Research papers filled from the journal and finished by the agent: templates, their parts, the files."""
