"""The one error that users of this package see."""


class ClusterError(Exception):
    """What went wrong and the mend, in one sentence that can be printed as it is."""
