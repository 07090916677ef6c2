"""Served models: Endpoint with its immutable specs, phase and conditions; publishes routes to gateways."""
