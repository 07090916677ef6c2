"""What is in a model folder, and whether it may be served. It reads untrusted bytes in a limited child process.

Everything but run.py is pure and uses the standard library alone: the child starts as `python -I -S`.
"""
