"""gatewrit turns service-block orders into exact, timed, accountable nftables rules on Linux gateways."""

import os

# NumPy's OpenBLAS starts a thread for each processor when it is imported, and interrupts the process (SIGINT) where it
# can't: on a host of 64 they are all that the units' TasksMax allows. Nothing of ours multiplies matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def __getattr__(name: str) -> str:
    """Give `__version__`, looked up once it is asked for: that takes longer than a Tab key may."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        globals()[name] = found = version("gatewrit")
        return found
    raise AttributeError(name)
