"""Helpers of tests: tables over dicts, builders of commands, and what must hold of every state."""
