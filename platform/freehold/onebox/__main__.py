"""`python -m freehold.onebox up|down|clean`: what the Makefile calls."""

from __future__ import annotations

import argparse
import os
import sys

from freehold.onebox.down import clean, down
from freehold.onebox.up import up


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m freehold.onebox", description="Freehold on one machine.")
    parser.add_argument("command", choices=("up", "down", "clean"))
    parser.add_argument("--detach", action="store_true", default=os.environ.get("DETACH", "") not in {"", "0"})
    arguments = parser.parse_args()
    match arguments.command:
        case "up":
            return up(detach=arguments.detach)
        case "down":
            return down()
        case _:
            return clean()


if __name__ == "__main__":
    sys.exit(main())
