"""Makers of test data, one noun a module."""
