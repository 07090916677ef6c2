"""Commands an operator runs."""
