"""Every port Freehold listens on. The only file that names one.

Web and gateway listen on `FREEHOLD_HOST` (default: loopback); databases and engines on loopback whatever it says, and
so do the private ports unless `GATEWAY_PRIVATE_HOST` and `FREEHOLD_METRICS_HOST` say otherwise.

`FREEHOLD_PORT_OFFSET` (an integer, default 0) shifts them all, so that two installations live side by side.
"""

from __future__ import annotations

import os

LOOPBACK = "127.0.0.1"  # what is never public: databases, engines, private ports
HOST = os.environ.get("FREEHOLD_HOST", LOOPBACK)
ADDRESS = LOOPBACK if HOST in {"0.0.0.0", "::"} else HOST  # noqa: S104 - where we reach ourselves when listening there
OFFSET = int(os.environ.get("FREEHOLD_PORT_OFFSET", "0"))

WEB = 8400 + OFFSET  # console, REST API, hub
GATEWAY = 8401 + OFFSET  # inference: what OpenAI and Anthropic SDKs call
GATEWAY_METRICS = 8402 + OFFSET  # private: health and Prometheus metrics of the gateway
CONTROL_METRICS = 8403 + OFFSET  # private: Prometheus metrics of the control plane, from the watcher
POSTGRES = 8410 + OFFSET
REDIS = 8411 + OFFSET
GATEWAY_METRICS_MORE = 8420 + OFFSET  # private: the same of the gateway's second process, its third, …
GATEWAY_PROCESSES_MOST = 64
ENGINE_FIRST = 8500 + OFFSET  # local runtime: one port a replica
ENGINE_COUNT = 100


def gateway_metrics(process: int) -> int:
    """The private port of a process of the gateway, counted from 0."""
    return GATEWAY_METRICS_MORE + process - 1 if process else GATEWAY_METRICS
