"""What keeps a run inside its own folders: what is allowed, and the means of this system to enforce it."""
