"""Headrace: a Kubernetes operator and autoscaling controller that keeps LLM engines fed."""
