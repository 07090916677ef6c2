"""`python -m freehold.gateway.process`: one process of the gateway, the one that does the work. Decides whether it runs
compiled modules (native.py), which has to be done before anything imports them; all else is serving.py's."""

from __future__ import annotations

import importlib
import sys

from freehold.common import env
from freehold.gateway import native


def main() -> int:
    """Entry point. Returns the exit code."""
    try:
        native.use()
    except env.ConfigurationError as error:
        sys.stderr.write(f"The gateway cannot start: {error}\n")
        return 1
    serving = importlib.import_module("freehold.gateway.serving")
    code: int = serving.main()
    return code


if __name__ == "__main__":
    sys.exit(main())
