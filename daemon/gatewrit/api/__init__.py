"""What outsiders see and ask: JSON, metrics and the page over HTTP, and the control socket for the command line.

It is given an immutable snapshot and never the kernel, so that it can run as a process of its own.
"""
