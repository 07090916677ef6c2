"""Jobs that tasks call: each is one call into the platform, joined to this process's connections."""
