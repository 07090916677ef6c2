"""The controllers of a cluster, as far as a client can see them: what they write, and the words they use."""
