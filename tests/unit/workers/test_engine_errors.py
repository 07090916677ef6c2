"""The line of an engine's log that says why it ended; the samples are vLLM 0.32's own."""

from __future__ import annotations

from workers.runtimes.engine_errors import error_line

TOO_LONG = """\
(EngineCore pid=77) ERROR 11-23 16:01:02 [core.py:1100] Traceback (most recent call last):
(EngineCore pid=77) ERROR 11-23 16:01:02 [core.py:1100]   File "core.py", line 800, in run_engine_core
(EngineCore pid=77) ERROR 11-23 16:01:02 [core.py:1100] ValueError: To serve at least one request with the models's \
max seq len (8000000), (3.81 GiB KV cache is needed, which is larger than the available KV cache memory (1.0 GiB).
(APIServer pid=70) Traceback (most recent call last):
(APIServer pid=70)   File "api_server.py", line 700, in <module>
(APIServer pid=70) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def test_the_root_cause_wins_over_what_wraps_it() -> None:
    line = error_line(TOO_LONG.splitlines())
    assert line.startswith("ValueError: To serve at least one request")
    assert line.endswith("(1.0 GiB).")


def test_a_plain_traceback_is_understood() -> None:
    assert error_line(["Traceback (most recent call last):", "OSError: [Errno 98] Address already in use"]) == (
        "OSError: [Errno 98] Address already in use"
    )


def test_a_log_without_an_error_gives_nothing() -> None:
    assert error_line(["INFO 11-23 16:01:02 [api.py:1] Started", "", "Error handling is enabled"]) == ""
