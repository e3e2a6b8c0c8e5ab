"""`python -m builder.bake`. What it runs with may be missing on a machine that is only to fill a volume."""

import os
import sys

if __name__ == "__main__":
    try:
        from builder.bake.command import STOPPED, main

        if (code := main()) == STOPPED:
            os._exit(code)  # `sys.exit` waits for every thread
        sys.exit(code)
    except ModuleNotFoundError as error:
        sys.exit(f"the package {error.name} is not installed: pip install -r builder/requirements-bake.txt")
