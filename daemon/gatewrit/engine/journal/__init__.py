"""What was ordered, decided, enforced and lifted, when and by whom: rows in SQLite, chained by their digests."""
