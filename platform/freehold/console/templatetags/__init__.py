"""What templates of the console need beyond Django's own."""
