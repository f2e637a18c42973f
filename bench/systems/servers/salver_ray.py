"""`salver serve --engine ray`, as a user starts it, with a HAProxy of its own where Ray uses one."""

import os
import sys
from pathlib import Path

from bench.systems.servers.ray_planes import keep_to_itself


def main() -> None:
    """Becomes the command."""
    keep_to_itself(Path.cwd())
    salver = str(Path(sys.executable).with_name("salver"))
    os.execv(salver, [salver, "serve", *sys.argv[1:], "--engine", "ray"])


if __name__ == "__main__":
    main()
