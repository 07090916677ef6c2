"""What control plane and data plane say to each other through Redis: versioned msgspec structs, key names, a publisher
and a follower. No Django: the gateway imports this and `common` only.

- names.py    every Redis key
- records.py  what the gateway knows: keys, tenants, routes
- usage.py    what the gateway reports: one UsageRecord an answered request
- publish.py  control plane → Redis (each domain publishes its own section)
- balances.py control plane → Redis: prepaid balances, and the epoch that says whether to believe them
- follow.py   Redis → gateway, kept on disk
- hints.py    control plane → workers: "look at this soon", never a guarantee
- logs.py     workers → control plane: tails of replica logs, on request

Every struct travels as a msgpack map. A reader ignores fields it does not know and every field added later has a
default, so that version N reads N±1.
"""
