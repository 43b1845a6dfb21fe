"""Who vouches for a policy directory: the manifest of what is in it, and OpenSSH signatures over that."""
