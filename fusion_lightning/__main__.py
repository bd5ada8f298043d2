"""`python -m fusion_lightning`, or `fusion-lightning`."""

import os
import sys

from fusion_lightning.main import main


def run() -> int:
    """Run the command line as a program, in Python's UTF-8 mode: text is UTF-8 also where libraries read or write it.

    Returns:
        The exit code.
    """
    if not sys.flags.utf8_mode and sys.getfilesystemencoding() + sys.stdout.encoding != "utf-8utf-8":
        # not the variable alone, which `python -I` ignores: it would begin again without end
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    return main()


if __name__ == "__main__":
    sys.exit(run())
