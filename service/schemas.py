"""What requests and replies look like; the OpenAPI document is made of these.

Those of the V1 and V2 protocols are for the document alone: their routes read what comes by themselves, which is
faster and says in the protocol's own words what is wrong.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from service.http.json_reply import Text

_IMAGE: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mOoAAAAegB5HunP9gAAAABJRU5ErkJggg=="
"""One grey pixel as a PNG, for examples that every model answers."""

Base64Text = Annotated[str, Field(description="an encoded image in base64, with or without a data: prefix")]


def _example(**content: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [content]})


# --- /predict


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ImageRequest(_Request):
    """One image as JSON."""

    model_config = _example(image=_IMAGE)

    image: Base64Text


class ImagesRequest(_Request):
    """Several images as JSON."""

    model_config = _example(images=[_IMAGE])

    images: list[Base64Text]


class Answer(BaseModel):
    """One class and its probability."""

    label: str
    index: int
    probability: float


class Prediction(BaseModel):
    """What is in one image: the likeliest class, and the likeliest few in order."""

    model: str
    version: int
    label: str
    index: int
    probability: float
    unsure: bool = Field(description="whether the probability is below the threshold on the model's card")
    top: list[Answer]


class ErrorBody(BaseModel):
    """What was wrong, for programs and for people."""

    code: str
    message: str


class ErrorReply(BaseModel):
    """Every reply that is not a success."""

    error: ErrorBody


class BatchPrediction(BaseModel):
    """What is in each image, in the order they were sent; an `error` in place of an image that cannot be read."""

    model: str
    version: int
    predictions: list[Prediction | ErrorReply]


class Accepted(BaseModel):
    """What was sent is taken up; nobody waits until that is done."""

    accepted: bool


# --- models and health


class ModelSummary(BaseModel):
    """A model that is served."""

    name: str
    version: int
    default: bool
    labels: list[str]
    height: int
    width: int
    accuracy: float | None
    share: float = Field(description="part of the requests without a version that it answers, from 0 to 1")


class RefusedVersion(BaseModel):
    """A version in the repository that cannot be served, and why."""

    name: str
    version: int
    reason: Text


class IgnoredPath(BaseModel):
    """Something in the models folder that is neither a model nor a version, and why."""

    path: Text
    reason: Text


class ModelList(BaseModel):
    """Every version that is served, and every one that was refused."""

    models: list[ModelSummary]
    refused: list[RefusedVersion]
    ignored: list[IgnoredPath]


class VersionState(BaseModel):
    """A version of a model, and whether it answers."""

    name: str
    version: str
    state: str = Field(description="READY or UNAVAILABLE in V2, AVAILABLE or END in V1")
    reason: Text = Field(description="why it was refused; else empty")


class ProtocolModels(BaseModel):
    """The models of the repository, and each one's versions."""

    models: list[str]
    versions: list[VersionState]


class ModelTraffic(BaseModel):
    """Which versions of a model answer requests that name none."""

    name: str
    shares: dict[str, float] = Field(description="by version, the part that it answers, from 0 to 1")


class ModelDetail(ModelSummary):
    """A model that is served, and its card."""

    card: dict[str, Any]


class Health(BaseModel):
    """How the service is, for people."""

    status: str
    version: str
    uptime_seconds: float
    models: dict[str, list[int]]
    waiting_images: int
    processes: int


class Probe(BaseModel):
    """How the service is, for an orchestrator."""

    status: str


# --- Open Inference Protocol V2; null is as if it were left out

_Whole = Annotated[int, Field(ge=0, le=2**31 - 1)]


class InferInputParameters(BaseModel):
    """Where an input's data are."""

    binary_data_size: _Whole | None = Field(None, description="bytes of this input behind the JSON part")


class InferInput(BaseModel):
    """Images: pixels or encoded ones."""

    name: Literal["images"]
    datatype: Literal["UINT8", "BYTES"] = Field(description="UINT8: pixels; BYTES: encoded images")
    shape: list[Annotated[int, Field(ge=1, le=2**31 - 1)]] = Field(
        description="[N, H, W, 3] of pixels, [N] of encoded images"
    )
    data: list[Any] | None = Field(
        None,
        description="whole numbers from 0 to 255, flat or nested as shape says, or base64 strings; "
        "left out where binary_data_size is given",
    )
    parameters: InferInputParameters | None = None


class InferOutputParameters(BaseModel):
    """How an output shall look."""

    binary_data: bool | None = Field(None, description="whether it comes as bytes behind the JSON part")
    classification: _Whole | None = Field(
        None, description="how many classes to name, as probability:index:label; 0: all probabilities instead"
    )


class InferOutput(BaseModel):
    """An output that is wanted."""

    name: Literal["probabilities"]
    parameters: InferOutputParameters | None = None


class InferParameters(BaseModel):
    """How a request shall be answered."""

    timeout: _Whole | None = Field(None, description="microseconds until the answer is of no use; 0: the server's own")
    binary_data_output: bool | None = Field(None, description="whether outputs are binary unless they say otherwise")


class InferRequest(BaseModel):
    """Images to be classified."""

    model_config = _example(inputs=[{"name": "images", "shape": [1], "datatype": "BYTES", "data": [_IMAGE]}])

    id: str | None = Field(None, description="comes back with the reply")
    parameters: InferParameters | None = None
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[InferOutput] | None = Field(None, max_length=1)


class InferredOutput(BaseModel):
    """Probabilities, or the likeliest classes."""

    name: Literal["probabilities"]
    datatype: Literal["FP32", "BYTES"]
    shape: list[int] = Field(description="[N, classes]")
    data: list[float] | list[str] = Field(description="flat; BYTES are probability:index:label")


class InferReply(BaseModel):
    """What is in the images."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferredOutput] = Field(min_length=1, max_length=1)


class LoadParameters(BaseModel):
    """What to load."""

    version: int | str | None = Field(None, description="stay with this version; what the server serves, if left out")


class LoadRequest(BaseModel):
    """How to load a model."""

    parameters: LoadParameters | None = None


class Ready(BaseModel):
    """Whether every model answers."""

    ready: bool


class ProtocolError(BaseModel):
    """Every reply under /v1 and /v2 that is not a success."""

    error: str


# --- TensorFlow Serving

_Byte = Annotated[int, Field(ge=0, le=255)]
_Pixels = Annotated[list[list[list[_Byte]]], Field(description="one image's pixels, [H, W, 3]")]


class EncodedImage(BaseModel):
    """An encoded image."""

    b64: str = Field(description="base64")


class NamedImage(BaseModel):
    """An image under the name of the model's input."""

    images: EncodedImage | _Pixels


class NamedImages(BaseModel):
    """Images under the name of the model's input."""

    images: EncodedImage | Annotated[list[EncodedImage | _Pixels], Field(min_length=1)]


_Images = Annotated[list[EncodedImage | NamedImage | _Pixels], Field(min_length=1)]


class _PredictRequest(BaseModel):
    signature_name: Literal["serving_default"] = "serving_default"


class RowRequest(_PredictRequest):
    """Images one by one."""

    model_config = _example(instances=[{"b64": _IMAGE}])

    instances: EncodedImage | _Images


class ColumnRequest(_PredictRequest):
    """Images as the model's input."""

    inputs: NamedImages | EncodedImage | _Images


class RowReply(BaseModel):
    """Each image's probabilities."""

    predictions: list[list[float]]


class ColumnReply(BaseModel):
    """The model's output: each image's probabilities."""

    outputs: list[list[float]]


# --- what routes say of themselves in the document

BINARY: Final[dict[str, Any]] = {"type": "string", "format": "binary"}


def refused(model: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: the statuses it refuses with, and the model of what it says then."""
    return {status: {"model": model} for status in statuses}


INFERRING: Final = (400, 401, 404, 408, 413, 415, 422, 503)
"""How every route that runs a model may refuse."""
PROTOCOL_ASKING: Final = refused(ProtocolError, 401, 404)
"""How routes of V1 and V2 that tell something of one model may refuse."""
PROTOCOL_INFERRING: Final = refused(ProtocolError, *INFERRING)


def takes(content: dict[str, dict[str, Any]], *, required: bool = True) -> dict[str, Any]:
    """A route's `openapi_extra`: the body that it reads by itself, a JSON Schema for each content type."""
    forms = {kind: {"schema": schema} for kind, schema in content.items()}
    return {"requestBody": {"required": required, "content": forms}}


PARTS: Final[dict[str, Any]] = {}
"""The JSON Schemas that `described` refers to, by name: the document's components must have them."""


def described(model: Any) -> dict[str, Any]:
    """The JSON Schema of a model, or of a union of some, for `openapi_extra`; its parts are in `PARTS`.

    They are not written in place: generators of clients make a class of each, and cannot of one without a name.
    """
    schema = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}")
    PARTS.update(schema.pop("$defs", {}))
    return schema


def form(file: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a multipart form whose field `file` has that one."""
    return {"type": "object", "properties": {"file": file}, "required": ["file"]}


ONE_IMAGE: Final[dict[str, dict[str, Any]]] = {
    "multipart/form-data": form(BINARY),
    "application/json": described(ImageRequest),
    "application/octet-stream": BINARY,
    "image/*": BINARY,
}
"""The forms in which one image is sent."""
