"""The ruleset as values, its difference from the kernel's as a transaction, and the netlink socket that carries it.

Knows nothing of policies. `socket` is the only module of the whole project that imports pyroute2.
"""
