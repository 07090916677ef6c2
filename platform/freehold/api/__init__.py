"""REST API v1: thin views over services and selectors; problem+json errors, idempotency keys, cursor pagination."""
