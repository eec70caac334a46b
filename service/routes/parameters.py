"""Query parameters that several routes take."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

Model = Annotated[str | None, Query(description="a model's name; the default one if left out")]
Version = Annotated[int | None, Query(ge=1, description="a version; the newest if left out")]
