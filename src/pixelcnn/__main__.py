"""`python -m pixelcnn` runs the command line."""

from pixelcnn.cli import main
from pixelcnn.processes import leave

if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as end:  # another process of the job reports why
        code = int(end.code or 0)
    leave(code)
