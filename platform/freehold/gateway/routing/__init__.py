"""Which replica: the one that has the beginning of the prompt in its cache, unless it has too much to do already.

- router.py    Router: the choice, and what the rest of the gateway calls
- prefix.py    the leading blocks of a prompt as a key
- memory.py    which replica served a prefix last, for the most recent ones
- order.py     in which order a prefix that nobody remembers tries replicas: rendezvous hashing
- replicas.py  what is known of a replica, and the group of replicas behind a route
- health.py    ejection and readmission
- probes.py    GET /health
- budget.py    how many attempts may be retries
"""
