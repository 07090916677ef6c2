"""Who did what: append-only, hash-chained AuditEvents. Written by every write service in its own transaction."""
