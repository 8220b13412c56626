"""`python -m pixelcnn`: the command line."""

import sys

from pixelcnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
