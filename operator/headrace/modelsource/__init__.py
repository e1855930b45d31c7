"""Reads model files (shell)."""
