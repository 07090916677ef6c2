"""The runtime that keeps objects in a Kubernetes cluster. The only place that imports the official client."""
