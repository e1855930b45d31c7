"""From an InferenceService to manifests (pure): `build.build` is the way in."""
