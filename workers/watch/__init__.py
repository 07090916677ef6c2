"""A long-running process, not Celery: sees changes soon and hints, and tails logs that somebody looks at. Two of them
are harmless, none is too: the periodic resync suffices."""
