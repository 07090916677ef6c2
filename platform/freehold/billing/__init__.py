"""What usage costs: price books, the rating of usage by them, the ledger. Money is an integer number of nanos."""
