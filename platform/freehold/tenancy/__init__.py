"""Users, tenants, memberships, roles, API keys; the one permission table. Publishes keys and tenants to gateways."""
