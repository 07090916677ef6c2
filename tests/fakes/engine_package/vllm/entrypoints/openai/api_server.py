"""Starts like vLLM's API server as far as a runtime can see: same module, same flags, same `/health`, same ways to end.

The model's folder says what it plays, in `play.json`: {"ready_after": seconds, "crash": "an error line", …}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

FLAGS = dict(pairwise(sys.argv[1:]))
PLAY = json.loads((Path(FLAGS["--model"]) / "play.json").read_text())


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


print("environment:", json.dumps(dict(os.environ)), flush=True)
print("identity:", os.getuid(), os.getgid(), Path.cwd(), flush=True)
if PLAY.get("child"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("child:", child.pid, flush=True)
if "crash" in PLAY:
    print("Traceback (most recent call last):\n  File x\n" + PLAY["crash"], flush=True)
    sys.exit(1)
time.sleep(PLAY.get("ready_after", 0))
if PLAY.get("never"):
    threading.Event().wait()
HTTPServer((FLAGS["--host"], int(FLAGS["--port"])), Health).serve_forever()
