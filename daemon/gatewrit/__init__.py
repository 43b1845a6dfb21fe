"""gatewrit turns service-block orders into exact, timed, accountable nftables rules on Linux gateways."""

from importlib.metadata import version

__version__ = version("gatewrit")
