"""gatewrit turns service-block orders into exact, timed, accountable nftables rules on Linux gateways."""

import os
from importlib.metadata import version

__version__ = version("gatewrit")

# NumPy's OpenBLAS starts a thread for each processor when it is imported, and interrupts the process (SIGINT) where it
# can't: on a host of 64 they are all that the units' TasksMax allows. Nothing of ours multiplies matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
