"""Commands an operator or the Helm chart runs."""
