"""`python -m proxy` does the same as `millrace edge`."""

import sys

from gateway.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["edge", *sys.argv[1:]]))
