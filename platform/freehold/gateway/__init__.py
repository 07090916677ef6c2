"""The inference data plane: an asyncio process a core that authenticates, rebuilds, relays, meters and ships.

It never imports Django, Celery or a database driver: what it knows it follows through `wire`, what it counts it ships
through `wire`. Started as `python -m freehold.gateway`.

- processes.py  the parent: sockets, starts, restarts, reloads; children.py, channel.py, doors.py, place.py: its parts
- process.py    one process: where everything is put together; parent.py: the other end of the channel
- settings.py   configuration from the environment
- http1.py      the client's side of a connection: strict HTTP/1.1, limits, pipelining, back-pressure
- upstream.py   the engine's side: pooled connections and the choice of a replica
- app.py        which path leads where; admission in order: key, body, model, journal
- auth.py       key → tenant → route, from memory
- bodies.py     requests rebuilt from an allowlist of fields (parts.py: what may stand inside messages)
- relay.py      one request between a client and a replica: retries, deadlines, hang-ups, settlement
- sse.py        streams, frame by frame: counted, renamed, and truthful about how they ended
- answers.py    the same for answers in one piece
- meter.py      open and settle; journal.py, slots.py: what survives a kill; shipper.py: what leaves for metering
- state.py      one process a folder, one gateway a state
- departure.py  how it leaves: withdraw, drain, ship; drain.py: a command, what a pod's preStop runs
- replay.py     a command: ships the journal of a gateway that is gone
- private.py    health, Prometheus metrics and /drain on the private port; metrics.py: the numbers
- accesslog.py  a line a request
"""
