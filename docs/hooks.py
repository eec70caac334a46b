"""MkDocs' hooks: the pages that are made from the code at each build, so that they cannot drift from it.

Links from pages to files of the repository that are no pages lead to the repository's copy.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    sys.path.insert(0, str(ROOT))  # here, since MkDocs restores the path after it has loaded its hooks
    for name, make in (("settings.md", settings), ("metrics.md", metrics), ("errors.md", errors)):
        files.append(File.generated(config, name, content=make()))
    return files


def settings() -> str:
    """Every setting of `kernelscope serve`."""
    from service.settings import Settings

    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=False) if field.default_factory is None else "those that ship"
        shown = "" if default in (None, "") else f"`{default}`"
        rows.append(f"| `--{name.replace('_', '-')}` | `KERNELSCOPE_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Of `kernelscope serve`. A flag wins over its environment variable. Sizes are in bytes, times in seconds.",
            "",
            "| flag | variable | default | what it sets |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def metrics() -> str:
    """Every metric at `/metrics`."""
    from service.observability.metrics import Metrics

    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {family.documentation} |"
        for family in Metrics().figures()
    ]
    return "\n".join(
        [
            "# Metrics",
            "",
            "At `GET /metrics`, summed over the processes of one service, beside the process metrics that all "
            "Prometheus clients have, `kernelscope_model_info` and `kernelscope_model_load_seconds`. "
            "[Metrics, logs, traces](observability.md) says which of them to watch.",
            "",
            "| metric | type | what it tells |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def errors() -> str:
    """Every error code of the service."""
    from service.http.error_codes import CODES

    rows = [f"| `{code}` | {status} | {meaning} |" for code, (status, meaning) in sorted(CODES.items())]
    return "\n".join(
        [
            "# Error codes",
            "",
            'A request that is not answered gets `{"error": {"code", "message"}}`; under `/v1` and `/v2`, '
            '`{"error": "message"}`, as their protocols want it. The message says what was wrong and what would be '
            "right. Programs go by the code and the status.",
            "",
            "| code | status | what it means |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Let links to files that are not part of the site name the file instead."""

    def replaced(match: re.Match[str]) -> str:
        text, target = match[1], match[2].partition("#")[0]
        if "://" in target or not target:
            return match[0]
        folder = Path(page.file.src_uri).parent
        path = (ROOT / "docs" / folder / target).resolve()
        is_page = path.is_relative_to(ROOT / "docs") and files.get_file_from_path((folder / target).as_posix())
        if is_page or not path.exists():
            return match[0]
        return f"{text} (`{path.relative_to(ROOT)}`)"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", replaced, markdown)
