"""Print the lowest versions that setup.cfg allows, as pip's constraints: `python tests/lowest.py [TORCH]`."""

import configparser
import re
import sys
from pathlib import Path


def lowest(torch: str | None = None) -> dict[str, str]:
    """Requirement -> its lowest version, of the package and of the extras that it makes use of when it runs.

    Args:
        torch: A version of torch in place of the lowest, where that one has no build that suits the machine.
    """
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    extras = [text for name, text in setup["options.extras_require"].items() if name != "dev"]
    listed = [setup["options"]["install_requires"], *extras]
    found = {}
    for line in "\n".join(listed).splitlines():
        if match := re.match(r"([\w.-]+)(?:\[\w+\])?[>=]=([\d.]+)", line):
            found[match.group(1)] = match.group(2)
    return found | ({"torch": torch} if torch else {})


if __name__ == "__main__":
    for name, version in lowest(*sys.argv[1:2]).items():
        print(f"{name}=={version}")
