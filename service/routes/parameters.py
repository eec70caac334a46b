"""Query parameters that several routes take."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

Model = Annotated[str | None, Query(description="a model's name; the default one if left out")]
Timeout = Annotated[float | None, Query(gt=0, le=3600, description="seconds until the answer is of no use any more")]
Version = Annotated[int | None, Query(ge=1, description="a version; the newest if left out")]
