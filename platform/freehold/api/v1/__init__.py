"""Version 1 of the REST API: one module a resource. Within a version fields are added, never renamed or removed."""
