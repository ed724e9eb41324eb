"""A shop that forgets orders which nobody paid."""
