"""Kubernetes objects for a tenant and for an endpoint. Pure: spec and settings in, manifests out."""
