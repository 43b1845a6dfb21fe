"""What keeps the orders enforced: reconciler, schedule, last good policies, counters, and the daemon's life story."""
