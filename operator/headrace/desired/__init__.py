"""From an InferenceService to the manifests of its children (pure)."""
