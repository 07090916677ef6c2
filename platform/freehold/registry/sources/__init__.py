"""Where weights are imported from: another hub, or an S3 prefix, over a client that cannot be turned against the
operator's own network. Called by the import job alone; everything here blocks and belongs into a worker."""
