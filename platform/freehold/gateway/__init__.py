"""The inference data plane: an asyncio process a core that authenticates, rebuilds, relays, meters and ships.

It never imports Django, Celery or a database driver: what it knows it follows through `wire`, what it counts it ships
through `wire`. Started as `python -m freehold.gateway`.

- processes.py  the parent: sockets, starts, restarts, reloads; children.py, channel.py, doors.py, place.py: its parts
- process.py    one process; serving.py: where everything is put together; parent.py: the other end of the channel
- native.py     the compiled form of the hot modules, where one fits; compile.py: a command that builds it
- settings.py   configuration from the environment
- http1.py      the client's side of a connection: strict HTTP/1.1, limits, pipelining, back-pressure
- surface/      what clients may say and how they are answered: bodies rebuilt, answers and streams counted and renamed
- admission/    limits and balances: one reservation for all of them
- routing/      which replica: prefix-aware with bounded load, health, ejection, the retry budget
- app.py        which path leads where, and in which order a request is checked
- auth.py       key → tenant → route, from memory
- relay.py      one request between a client and a replica: retries, deadlines, hang-ups, settlement
- waiting.py    requests whose endpoint has no ready replica yet
- upstream.py   the engine's side: pooled connections; introduction.py: who answers there; reply.py: answers to us
- exchange.py   what connections and those between them say to each other; failures.py, keepalive.py: how they fail
- recount.py    what an engine had not said when it was cut off, asked of its tokenizer afterwards
- meter.py      open and settle; journal.py, slots.py: what survives a kill; shipper.py: what leaves for metering
- state.py      one process a folder, one gateway a state
- departure.py  how it leaves: withdraw, drain, ship; drain.py: a command, what a pod's preStop runs
- replay.py     a command: ships the journal of a gateway that is gone
- private.py    health, Prometheus metrics and /drain on the private port; metrics.py: the numbers
- accesslog.py  a line a request
"""
