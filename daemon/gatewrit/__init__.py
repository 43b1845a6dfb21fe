"""gatewrit turns service-block orders into exact, timed, accountable nftables rules on Linux gateways."""


def __getattr__(name: str) -> str:
    """Give `__version__`, looked up once it is asked for: that takes longer than a Tab key may."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        globals()[name] = found = version("gatewrit")
        return found
    raise AttributeError(name)
