"""What `gatewrit doctor` looks at, one module for each part of the host. Nothing here changes anything."""
