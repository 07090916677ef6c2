"""The customers' weights: model repos, immutable revisions, their files; inspection; object storage."""
