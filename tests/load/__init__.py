"""Many clients at once, most of them up to no good."""
