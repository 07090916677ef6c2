"""Pure: what an endpoint wants, as vLLM arguments and (with Kubernetes) objects. No Django, no I/O."""
