"""`python -m freehold.gateway.drain`: has the gateway of this machine leave, and waits until it has. A pod's preStop.

Prints what the gateway says is left. Exit code 0 when it has drained, and where none listens (there is nothing to drain
then); 1 where it does not answer as it should, which Kubernetes notes as an event before it sends SIGTERM anyway.
"""

from __future__ import annotations

import http.client
import sys

from freehold.common import env, ports
from freehold.gateway.settings import departure_seconds

_SPARE_SECONDS = 10.0


def main() -> int:
    """Entry point. Returns the exit code."""
    try:
        seconds = departure_seconds() + _SPARE_SECONDS
    except env.ConfigurationError as error:
        sys.stderr.write(f"The gateway cannot be drained: {error}\n")
        return 1
    connection = http.client.HTTPConnection(ports.LOOPBACK, ports.GATEWAY_METRICS, timeout=seconds)
    try:
        connection.request("POST", "/drain")
        answer = connection.getresponse()
        told = answer.read().decode(errors="replace")
    except ConnectionRefusedError:
        sys.stdout.write("No gateway listens here.\n")
        return 0
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"The gateway did not say that it has drained within {seconds:g} s: {error}\n")
        return 1
    finally:
        connection.close()
    (sys.stdout if answer.status == http.client.OK else sys.stderr).write(f"{told}\n")
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
