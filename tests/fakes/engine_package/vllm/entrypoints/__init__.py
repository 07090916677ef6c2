"""A stand-in for vLLM's package, found through PYTHONPATH by tests of the local runtime."""
