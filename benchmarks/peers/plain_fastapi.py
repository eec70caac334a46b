"""A plain FastAPI endpoint with an UploadFile, as a tutorial has it: `uvicorn plain_fastapi:app`."""

from __future__ import annotations

from typing import Annotated

import model
from fastapi import FastAPI, File, UploadFile

app = FastAPI()
session = model.session()


@app.post("/predict")
def predict(file: Annotated[UploadFile, File()]) -> dict[str, object]:
    """The likeliest class."""
    return model.run(session, model.pixels(file.file.read())[None])[0]
