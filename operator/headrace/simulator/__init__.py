"""A discrete-event fleet that drives the very same plan functions (pure; generators are passed in)."""
