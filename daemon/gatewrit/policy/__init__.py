"""What was ordered: YAML files to typed, immutable policies and services, every fault with its place."""
