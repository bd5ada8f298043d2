"""`python -m fusion_lightning`."""

import os
import sys

from fusion_lightning.main import main

if __name__ == "__main__":
    if not sys.flags.utf8_mode and sys.getfilesystemencoding() + sys.stdout.encoding != "utf-8utf-8":
        # files are UTF-8 whatever the locale says, also those that libraries read: begin again in Python's UTF-8 mode
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    sys.exit(main())
