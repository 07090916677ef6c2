"""The local runtime: vLLM as a child process on this machine, one folder a replica.

- state.py    the files of a replica's folder: what was asked, what runs, how it ended
- shim.py     the process that owns one replica: fetches, starts the engine, outlives the worker, records the end
- process.py  pids and start times: is that still the process we mean?
- errors.py   the line of an engine's log that says why it ended
- observation.py  what folder and processes say together
- runtime.py  Runtime over all of that
"""
