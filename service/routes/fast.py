"""The calls that are answered on the fast path, which is described in `service.http.fast_path`."""

from __future__ import annotations

from typing import Final

from service.http.fast_path import Route
from service.routes import open_inference, predict, tensorflow_serving

ROUTES: Final = (
    Route("/predict", predict.Predict()),
    Route("/v2/models/{name}/infer", open_inference.INFER),
    Route("/v2/models/{name}/versions/{version}/infer", open_inference.INFER),
    Route("/v1/models/{name}:predict", tensorflow_serving.PREDICT),
    Route("/v1/models/{name}/versions/{version}:predict", tensorflow_serving.PREDICT),
)
