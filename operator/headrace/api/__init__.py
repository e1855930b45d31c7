"""The InferenceService API: pydantic models, conditions and the CRD made from them (pure)."""
