"""Reads engine endpoints (shell)."""
