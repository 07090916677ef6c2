"""The loop that makes what is there match what is asked for: claim → observe → plan → apply → record. plan.py and
status.py are pure."""
