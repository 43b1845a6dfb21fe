"""What may go wrong around the daemon, and what becomes of the traffic meanwhile."""
