"""`python -m freehold.gateway`: the parent of the gateway's processes (processes.py). Each of them is process.py;
serving.py's `Parts` puts everything together."""

from __future__ import annotations

import sys

from freehold.gateway.processes import main

if __name__ == "__main__":
    sys.exit(main())
