"""`python -m builder.bake`. What it runs with may be missing on a machine that is only to fill a volume."""

import sys

if __name__ == "__main__":
    try:
        from builder.bake.command import main

        sys.exit(main())
    except ModuleNotFoundError as error:
        sys.exit(f"the package {error.name} is not installed: pip install -r builder/requirements-bake.txt")
