"""Write kernelscope.d.ts, the types of the REST interface, from the OpenAPI document; with --check, compare only.

npm ci && python generate.py [--check]
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from contract import repository
from service.look import in_process

HERE = Path(__file__).resolve().parent
TYPES = HERE / "kernelscope.d.ts"
GENERATOR = HERE / "node_modules" / ".bin" / "openapi-typescript"


async def document() -> bytes:
    """The OpenAPI document, from the application itself, without a server."""
    async with in_process.application(repository.find(repository.shipped(), "cifar10")) as application:
        return (await application.call("GET", "/openapi.json", {})).body


def generated() -> str:
    """The types of the OpenAPI document."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "openapi.json", Path(folder) / "types.d.ts"
        source.write_bytes(asyncio.run(document()))
        subprocess.run([GENERATOR, source, "--output", target], check=True, capture_output=True)
        return target.read_text(encoding="utf-8")


def main() -> int:
    """Write the types, or compare them; returns 1 where those that are there are not current."""
    if not GENERATOR.is_file():
        sys.exit(f"openapi-typescript is not installed: run npm ci in {HERE}")
    types = generated()
    if "--check" not in sys.argv[1:]:
        TYPES.write_text(types, encoding="utf-8")
        return 0
    if types == TYPES.read_text(encoding="utf-8"):
        return 0
    print(f"{TYPES.name} is not current: run `make types`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
