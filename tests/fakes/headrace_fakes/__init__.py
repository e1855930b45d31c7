"""Stand-ins for what the operator's shell talks to: clocks and an API server."""
