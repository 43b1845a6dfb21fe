"""`python -m gatewrit`: the command line."""

from gatewrit.cli import main

main()
