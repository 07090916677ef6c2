"""The runtime that keeps objects in a Kubernetes cluster. account.py alone imports the official client."""
