"""`python -P -m gatewrit.api`: the process that speaks HTTP. See `server`; this keeps out what it doesn't need."""

import sys

if __name__ == "__main__":
    # structlog loads rich, if it is there, to colour tracebacks: 5 MB. An import of None fails as if it weren't there.
    sys.modules["rich"] = None  # type: ignore[assignment]
    from gatewrit.api.server import main

    main()
