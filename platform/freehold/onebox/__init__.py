"""`make up`: the whole of Freehold on one machine, with embedded PostgreSQL and Redis and real vLLM on the CPU.

- install.py      the two environments, from lock files; runs before any of them exists (standard library only)
- layout.py       where everything lies, and who can reach it
- interpreter.py  a Python that an unprivileged user may run
- credentials.py  secrets made once
- environment.py  what every process finds in its environment
- postgres.py, redis.py   databases from wheels; tests use them too
- supervisor.py   supervisord's configuration and remote control; guard.py ends what a killed supervisor leaves
- reap.py         finds and ends every process of an installation
- checks.py       what could go wrong, said before it does
- seed.py         operator, tenant, region, cluster, flavor, prices: through services, where missing
- tiny_chat.py, models.py, customer.py   two models brought in through the product's own doors
- up.py, down.py  the commands
"""
