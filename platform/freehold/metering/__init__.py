"""What was used: one UsageEvent an answered request, one ReplicaInterval a state of a replica. Prices nothing."""
