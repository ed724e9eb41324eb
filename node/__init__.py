"""What only this process cares about: its clock, its network, its callers, its workers."""
