"""One migration at a time: the advisory lock that freehold_migrate holds, and that migrations_wait waits for."""

MIGRATION_LOCK = 0x46524545  # "FREE"
