"""Every knob of the service, typed; each can be set by an environment variable `KERNELSCOPE_<NAME>` or by a flag."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from contract import memory, preprocessing, repository
from contract.cpu import cores
from contract.errors import UsageError
from service.environment import PREFIX, Variables
from service.http.key_file import check_key

_MOST_WORKERS: Final = 8

_WORKER_MEMORY: Final = 60 * 2**20
"""Bytes that a process has of its own with the shipped model, its decode server included."""
_SUPERVISOR_MEMORY: Final = 84 * 2**20
"""Bytes that the supervisor has, those that it shares with the processes included."""
_IMAGE_MEMORY: Final = 304 * 2**20
"""Bytes for bodies and decoding with which 12 megapixels fit, whatever their format."""
_IMAGE_MEMORY_OF_A_WORKER: Final = 128 * 2**20
"""A process' part of them where there are several: with what explains beside it, it then grows by less than 250 MB."""


class Settings(BaseSettings):
    """The service's settings. Sizes are in bytes, times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", description="address to listen on, or unix:PATH; 0.0.0.0 for all")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 for any that is free")
    models: Path = Field(default_factory=repository.shipped, description="folder of <name>/<version>/model.onnx")
    versions: str = Field(
        "latest", pattern=r"^(latest|all|[1-9]\d{0,8})$", description="versions to serve: latest, all, or a number"
    )
    watch: float = Field(
        5.0, ge=0, le=86400, description="seconds between looks for new versions in the folder; 0 for never"
    )
    workers: int = Field(0, ge=0, le=256, description="processes on the one socket; 0 for one a core, and 8 at most")
    model: str | None = Field(None, description="model that answers /predict unless the request names one")
    top_k: int = Field(5, ge=1, description="classes listed in a reply unless the request says how many")
    threads: int = Field(0, ge=0, description="onnxruntime threads a model and process; 0 for its share of the cores")
    lone_threads: int = Field(
        0, ge=0, description="the same for one image while the other processes run nothing; 0 for all cores"
    )
    providers: str = Field("cpu", description="what to compute on, in order: cpu, cuda, tensorrt, openvino")
    max_batch_size: int = Field(32, ge=1, le=1024, description="images run through a model at once")
    max_queue: int = Field(1024, ge=1, description="images that may wait for a model before requests are refused")
    max_queue_delay: float = Field(0.0, ge=0, le=1, description="seconds a free model waits for a fuller batch")
    timeout: float = Field(30.0, gt=0, le=3600, description="seconds that a request may take unless it says how long")
    keep_alive: int = Field(
        75, ge=1, le=86400, description="seconds that an idle connection is kept; longer than a load balancer's"
    )
    max_connections: int = Field(4096, ge=1, description="connections at a time; the longest idle ones are closed")
    prefix: str = Field(
        "", pattern=r"^(/[\w.~-]+)*$", description="path that a proxy puts before ours, such as /kernelscope"
    )
    trusted_proxies: str = Field(
        "", description="addresses or networks, separated by commas, whose X-Forwarded-For is believed; none if empty"
    )
    max_body: int = Field(16 * 2**20, ge=1024, description="bytes of a request's body")
    max_pixels: int = Field(preprocessing.MAX_PIXELS, ge=1, description="width times height of an image")
    explain_memory: int = Field(
        2**30,
        ge=256 * 2**20,
        description="bytes of memory that the process which explains answers may take; it starts when asked",
    )
    image_memory: int = Field(
        0,
        ge=0,
        description="bytes that bodies and decoding may take in all processes together; 0 for what the memory suggests",
    )
    max_decode_seconds: float = Field(
        10.0, gt=0, le=3600, description="seconds of a processor's time that decoding an image may take"
    )
    max_images: int = Field(256, ge=1, description="images in one request to /predict/batch")
    api_keys: str = Field("", description="keys, separated by commas, of which a request must send one; none if empty")
    api_keys_file: Path | None = Field(
        None, description="TOML file of named keys with limits, read again when it changes; none if empty"
    )
    admin_key: str = Field("", description="key that loading and unloading models takes; refused if empty")
    cors_origins: str = Field("", description="origins, separated by commas, whose pages may ask; none if empty")
    feedback: str = Field(
        "",
        description="folder, or s3://bucket/folder, that keeps images whose answer was unsure or is disputed; "
        "none are kept if empty",
    )
    feedback_rate: float = Field(1.0, gt=0, le=1000, description="images of either kind to keep in a second at most")
    feedback_bytes: int = Field(2**28, ge=2**20, description="bytes that kept images may take on the disk")
    feedback_days: float = Field(30.0, gt=0, le=3650, description="days after which a kept image is removed")
    feedback_memory: int = Field(
        2**25, ge=0, description="bytes of memory, in all processes, for answers that may be disputed by request id"
    )
    load_timeout: float = Field(
        120.0, gt=0, le=86400, description="seconds that loading and warming a version may take"
    )
    drain_delay: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="seconds from SIGTERM, when readiness fails, until no more connections are taken",
    )
    drain_timeout: float = Field(30.0, ge=0, le=3600, description="seconds that requests in flight get after SIGTERM")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON")
    log_requests: bool = Field(True, description="write a line for each request")

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, keys: str) -> str:
        for key in keys.split(",") if keys else ():
            check_key(key.strip())
        return keys

    @field_validator("admin_key")
    @classmethod
    def _check_admin_key(cls, key: str) -> str:
        if key:
            check_key(key)
        return key

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment as `environment.Variables` reads it."""
        return init_settings, Variables(settings_cls)


def may_fork() -> bool:
    """Whether this system has what the supervisor needs: Linux does."""
    return sys.platform == "linux"


def settled(settings: Settings) -> Settings:
    """With the zeros of `workers`, `threads`, `lone_threads` and `image_memory` replaced by what suits this machine.

    One process a core, with one thread: on two cores that answered a third more requests than one process with two,
    at a lower latency (docs/performance.md). More than eight are left to whoever has the memory and the connections;
    where memory is short there are fewer, so that images of 12 megapixels can still be decoded.

    Raises:
        UsageError: several processes are asked for on a system that the supervisor does not know how to wait on.
    """
    if settings.workers > 1 and not may_fork():
        raise UsageError(f"--workers {settings.workers} needs Linux: leave it out here, or give 1")
    limit = memory.limit()
    room = max(1, (limit - _IMAGE_MEMORY - _SUPERVISOR_MEMORY) // _WORKER_MEMORY)
    workers = settings.workers or (min(cores(), _MOST_WORKERS, room) if may_fork() else 1)
    threads = settings.threads or max(1, cores() // workers)
    lone_threads = settings.lone_threads or settings.threads or cores()
    left = limit - _SUPERVISOR_MEMORY - workers * _WORKER_MEMORY
    image_memory = settings.image_memory or max(_IMAGE_MEMORY, min(workers * _IMAGE_MEMORY_OF_A_WORKER, left))
    chosen = {"workers": workers, "threads": threads, "lone_threads": lone_threads, "image_memory": image_memory}
    return settings.model_copy(update=chosen)


def load(**flags: object) -> Settings:
    """Settings from flags, then the environment, then the defaults.

    Raises:
        UsageError: a value is not of its kind or out of its range; the message names it and says what is allowed.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "?"
        said = f"KERNELSCOPE_{name.upper()} or --{name.replace('_', '-')}"
        value = "wrong" if name.endswith(("_key", "_keys")) else repr(first["input"])  # keys are not for the log
        raise UsageError(f"{said} is {value}: {first['msg'].lower().removeprefix('value error, ')}") from None
