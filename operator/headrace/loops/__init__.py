"""The reconcile loop, the autoscale loop and the lease: the only callers of the pure core (shell)."""
