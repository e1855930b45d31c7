"""Accelerators, measured step-time constants and model facts (data and pure functions)."""
