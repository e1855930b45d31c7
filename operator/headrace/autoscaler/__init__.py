"""How many replicas each role needs, and why: signals, capacity, demand, plan, guards (pure)."""
