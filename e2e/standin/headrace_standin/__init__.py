"""An engine without a model: SGLang's endpoints over an honest queue, for tests that are not about the engine."""
