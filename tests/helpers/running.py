"""`pixelcnn serve` as a process of its own."""

import contextlib
import os
import re
import subprocess
import sys


class Server:
    """A running server.

    Attributes:
        process: Its process.
        address: Where it can be visited.
    """

    def __init__(self, *arguments, cwd=None, env=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pixelcnn", "serve", *arguments, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        )
        said = self.process.stdout.readline()  # ends without a line if the process does
        found = re.fullmatch(r"serving .* at (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\)\n", said)
        if found is None:
            self.process.kill()
            raise AssertionError(f"{said!r}; {self.process.stderr.read()}")
        self.address = found[1]

    def memory(self):
        """Resident memory in bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) * 1024

    def stop(self, number):
        """Sends a signal and waits: the exit code and what was said on standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@contextlib.contextmanager
def running(*arguments, **options):
    """A server that is killed at the end, if it still runs."""
    server = Server(*arguments, **options)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()
