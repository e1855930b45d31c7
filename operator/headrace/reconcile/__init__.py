"""Diff, drain and status composition (pure)."""
