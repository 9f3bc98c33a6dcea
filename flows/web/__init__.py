"""Pages that a process of this machine serves, to its own user only."""
