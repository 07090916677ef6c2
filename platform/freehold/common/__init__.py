"""What everything may use and what knows nothing of the rest: errors, money, ids, time, environment. No Django."""
