"""Measurements on this machine, printed as a table. `make bench` runs them all; none of them is a test."""
