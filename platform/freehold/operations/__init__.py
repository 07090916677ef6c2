"""Whether the control plane itself does its work: heartbeats of its queues, and the numbers that Prometheus reads."""
