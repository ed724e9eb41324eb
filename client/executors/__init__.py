"""What a worker can do: one file per kind of action."""
