"""Write tiny checkpoints and their catalog.

python -m builder.tiny --into DIR [LAYOUT...]
MODELS_DIR=DIR CATALOG=DIR/catalog.toml MODELS=tiny-seedvr2-3b-fp16,tiny-wan-t2v-original python handler.py
"""

import argparse
from pathlib import Path

from builder.tiny.layouts import ALL, make


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m builder.tiny", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="the folder, made where it is missing")
    parser.add_argument(
        "layouts", nargs="*", metavar="LAYOUT", help=f"which ones; all where none is named: {', '.join(ALL)}"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.layouts if name not in ALL]:
        parser.error(f"there is no layout `{unknown[0]}`; there are {', '.join(ALL)}")
    print(make(options.into, options.layouts or ALL))


if __name__ == "__main__":
    main()
