"""Reads Prometheus (shell)."""
