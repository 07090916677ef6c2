"""Fakes that stand behind real sockets."""
