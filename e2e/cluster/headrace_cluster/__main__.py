"""`python -m headrace_cluster`, the same as `headrace-cluster`."""

from headrace_cluster.cli import main

main()
