"""Freehold's workers: Celery tasks that reconcile engines and drain usage, and the watcher. May import freehold,
never the reverse."""
