#!/usr/bin/env python
"""Puts the source root `platform/` on the path, then hands over to Django; nothing else."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).resolve().parent
    sys.path[:0] = [str(root / "platform"), str(root)]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "freehold.config.settings.onebox")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
