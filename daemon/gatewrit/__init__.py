"""gatewrit turns service-block orders into exact, timed, accountable nftables rules on Linux gateways."""


def __getattr__(name: str) -> str:
    """Give `__version__`, looked up when it is asked for: that takes longer than a Tab key may."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("gatewrit")
    raise AttributeError(name)
