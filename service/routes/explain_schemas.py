"""What the replies about a network's inside look like: for the OpenAPI document, as another process writes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Size = Annotated[list[int], Field(min_length=3, max_length=3, description="rows, columns, channels")]
Pair = Annotated[list[int], Field(min_length=2, max_length=2, description="rows, then columns")]
Maps = list[list[list[float]]]
Graph = Literal["served", "float32"]


class _Reply(BaseModel):
    model: str
    version: int


class NamedClass(BaseModel):
    """A class and what the model that is served says of it."""

    label: str
    index: int
    logit: float
    probability: float


class Map(BaseModel):
    """Signed values of cells over the image: cell (i, j) covers `size` pixels from `origin` + (i, j) · `step`."""

    values: list[list[float]]
    scale: float = Field(description="the largest magnitude")
    origin: Pair = Field(description="of the first cell; may be negative")
    step: Pair
    size: Pair


class Support(BaseModel):
    """What a channel adds to a class."""

    label: str
    index: int
    value: float


class Changed(BaseModel):
    """The answer with channels switched off."""

    score: float
    label: str
    index: int
    probability: float = Field(description="of the class that was asked for")


class ChangedTogether(Changed):
    """The answer with several channels switched off."""

    channels: list[int]
    probabilities: list[float]


class ChannelContribution(BaseModel):
    """What one channel adds to the score, and where its map is highest."""

    channel: int
    value: float
    activation: float
    row: int
    column: int
    supports: list[Support]
    without: Changed


class Others(BaseModel):
    """What the channels that are not listed add together."""

    count: int
    value: float


class ContributionsPart(BaseModel):
    """Of `contributions`: sum + bias + rounding = score."""

    layer: str
    pooling: Literal["mean", "max", "flatten", "none"]
    shape: Size
    bias: float
    rounding: float
    sum: float
    channels: list[ChannelContribution]
    others: Others
    without: ChangedTogether | None


class OcclusionPart(BaseModel):
    """Of `occlusion`; the map has the score that is lost."""

    fill: str
    patch: Pair
    stride: Pair
    passes: int


class IntegratedGradientsPart(BaseModel):
    """Of `integrated_gradients`: sum - delta = score - baseline_score."""

    baseline: str
    steps: int
    baseline_score: float
    sum: float
    delta: float


class GradientActivationPart(BaseModel):
    """Of `gradient_activation`: sum + rest = score."""

    layer: str
    shape: Size
    sum: float
    rest: float


class Explanation(_Reply):
    """One method's account of one answer."""

    method: str
    class_: NamedClass = Field(alias="class")
    against: NamedClass | None
    score: float = Field(description="the class' logit, less the other's where there is one")
    graph: Graph = Field(description="what was explained: the model that is served, or its float32 twin")
    dtype: str
    logit_difference: float = Field(description="of that to what is served, the largest of all classes")
    seconds: float
    tells: str
    limits: str
    map: Map
    contributions: ContributionsPart | None = None
    occlusion: OcclusionPart | None = None
    integrated_gradients: IntegratedGradientsPart | None = None
    gradient_activation: GradientActivationPart | None = None


class Explanations(BaseModel):
    """KServe's reply: one explanation an image."""

    explanations: list[Explanation]


class ChannelSummary(BaseModel):
    """One map in numbers, and where it is highest."""

    channel: int
    minimum: float
    maximum: float
    mean: float
    row: int
    column: int


class Activations(_Reply):
    """The maps of a layer."""

    graph: Graph
    layer: str
    shape: Size
    minimum: float
    maximum: float
    zeros: float = Field(description="the share of values that are zero")
    channels: list[ChannelSummary]
    maps: Maps = Field(description="by channel, row and column")


class Region(BaseModel):
    """Pixels of the image; `bottom` and `right` are excluded."""

    top: int
    left: int
    bottom: int
    right: int


class UnitActivation(BaseModel):
    """What the activation that follows makes of a value."""

    layer: str
    function: str
    value: float


class Unit(_Reply):
    """How one value arises. Beside these there are the parts that its kind has."""

    model_config = ConfigDict(extra="allow")

    graph: Graph
    layer: str
    kind: str
    operator: str
    unit: Size
    value: float
    region: Region
    activation: UnitActivation | None


class LayerSize(BaseModel):
    """(m + 2p - k) / s + 1, worked out."""

    rows: str
    columns: str


class LayerRow(BaseModel):
    """A layer."""

    layer: str = Field(description="what the parameter `layer` takes")
    name: str = Field(description="the graph's own name, which that takes, too")
    kind: str
    operator: str
    activation: str | None
    inputs: list[str]
    input: Size | None
    output: Size | None
    kernel: Pair | None
    stride: Pair | None
    dilation: Pair | None
    padding: list[int] | None = Field(description="top, left, bottom, right")
    groups: int | None
    size: LayerSize | None
    receptive_field: Pair = Field(description="in pixels, those beyond the border included")
    jump: Pair = Field(description="pixels from one unit's receptive field to the next one's")
    origin: Pair = Field(description="where the first unit's begins")
    whole: bool = Field(description="whether units depend on the whole image whatever these say")
    parameters: int
    multiply_adds: int
    has_kernels: bool


class Totals(BaseModel):
    """All layers together."""

    parameters: int
    multiply_adds: int


class Stored(BaseModel):
    """What was prepared beside a model."""

    features: list[str] = Field(description="the layers that GET /models/{name}/features shows")
    neighbours: bool = Field(description="whether POST /neighbours answers")


class LayerTable(_Reply):
    """A network, layer by layer."""

    input: Size
    graph: Graph
    dtype: str
    methods: list[str] = Field(description="those that explain this model")
    cannot: dict[str, str] = Field(description="why the others do not, and why features or neighbours are missing")
    stored: Stored
    totals: Totals
    layers: list[LayerRow]


class Kernels(_Reply):
    """The weights of a convolution."""

    layer: str
    shape: list[int] = Field(description="kernels, rows, columns, channels")
    scale: float
    kernels: list[Maps] = Field(description="by kernel, channel, row and column")
    bias: list[float] | None


class Example(BaseModel):
    """A training image that a channel responds to."""

    index: int = Field(description="its number among the training images")
    file: str | None = Field(description="its file's name in the data; null where that is not known")
    label: str | None
    activation: float
    row: int
    column: int
    region: Region
    thumbnail: str | None = Field(description="a data: address; null unless training images were kept")


class Synthetic(BaseModel):
    """An image that was made for a channel, by gradient ascent."""

    image: str = Field(description="a data: address")
    activation: float
    share: float | None = Field(description="of the highest value that a training image reaches")
    stable: bool = Field(description="whether half of it remains when the image is shifted, turned and scaled a little")


class Features(_Reply):
    """What a channel responds to."""

    layer: str
    channel: int
    data: str
    images: int
    strongest: list[Example]
    weakest: list[Example]
    synthetic: Synthetic | None


class Neighbour(BaseModel):
    """A training image."""

    index: int
    file: str | None = Field(description="its file's name in the data; null where that is not known")
    label: str
    similarity: float = Field(description="the cosine of the angle between the features")
    thumbnail: str | None


class Neighbours(_Reply):
    """The nearest training images, the nearest first."""

    data: str
    images: int
    neighbours: list[Neighbour]


def png_or(*more: str) -> dict[str, Any]:
    """What a route says of a reply that is an image, or of another type without a schema."""
    return {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", *more)}
