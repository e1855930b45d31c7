"""A Kubernetes API server in memory, faithful where the operator depends on it; proven by the conformance tests."""

from headrace_fakes.apiserver.server import FakeApiServer

__all__ = ["FakeApiServer"]
