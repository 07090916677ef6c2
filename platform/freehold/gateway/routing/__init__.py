"""Which replica: prefix-aware with bounded load, health, ejection, the retry budget."""
