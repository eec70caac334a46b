"""Kernelscope on Ray Serve: the application of `kernelscope serve`, in replicas all over a Ray cluster.

    ray start --head                                            on one machine; `ray start --address ...` on the others
    python deploy/ray/serve.py --models /shared/models          deploys, or changes what is deployed, and returns

Every node needs Kernelscope with the extra `ray`, and the models folder under the same name. Settings are those of
`kernelscope serve`, from the environment of this command; replicas take them from here, not from their nodes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers

from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingConfig, HTTPOptions, ProxyLocation

from contract import repository
from contract.cpu import cores
from contract.errors import KernelscopeError, UsageError
from service import ray_cluster
from service import settings as service_settings
from service.app import create_app, create_state
from service.observability import log_setup
from service.settings import Settings
from service.worker_link import WorkerLink

NAME = "kernelscope"


def application(settings: Settings) -> FastAPI:
    """The application with its models, which are loaded before the first request."""
    log_setup.configure(settings.log_format)
    state = create_state(settings, WorkerLink())
    app = create_app(state)
    life = app.router.lifespan_context

    @asynccontextmanager
    async def loaded(app: FastAPI) -> AsyncIterator[None]:
        await state.group.start()
        async with life(app):
            yield

    app.router.lifespan_context = loaded
    return app


def deployment(settings: Settings, chosen: argparse.Namespace) -> serve.Application:
    """The application as Ray Serve deploys it; deployed again, its replicas are replaced one after the other."""

    def build() -> FastAPI:
        return application(settings)

    class Kernelscope:
        """What Ray makes replicas of; all that it does is the application."""

    kind = serve.deployment(
        name=NAME,
        autoscaling_config=AutoscalingConfig(
            min_replicas=chosen.min_replicas,
            max_replicas=chosen.max_replicas,
            target_ongoing_requests=chosen.target_requests,
            upscale_delay_s=chosen.upscale_delay,
            downscale_delay_s=chosen.downscale_delay,
        ),
        max_constructor_retry_count=3,
        max_ongoing_requests=2 * chosen.target_requests,
        max_queued_requests=settings.max_queue,  # then the proxy answers 503
        graceful_shutdown_timeout_s=settings.drain_timeout,
        health_check_period_s=2,
        health_check_timeout_s=10,
        ray_actor_options={"num_cpus": chosen.cpus},
    )
    return kind(serve.ingress(build)(Kernelscope)).bind()


def main(arguments: list[str]) -> int:
    """Deploy on the cluster that this machine belongs to, or on the one at an address; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--address", default="auto", help="of the Ray cluster (the one that this machine belongs to)")
    add("--host", default="127.0.0.1", help="on which each node's proxy listens (127.0.0.1); 0.0.0.0 for all")
    add("--port", type=int, default=8000, help="on which each node's proxy listens (8000)")
    add("--models", help="models folder, on storage that all nodes share (KERNELSCOPE_MODELS)")
    add("--versions", help="versions to serve: latest, all, or a number (KERNELSCOPE_VERSIONS)")
    add("--min-replicas", type=int, default=1, help="replicas at least (1)")
    add("--max-replicas", type=int, default=8, help="replicas at most (8)")
    add("--cpus", type=float, default=1, help="cores that a replica reserves (1)")
    add("--target-requests", type=int, default=16, help="requests under way in each replica that are aimed at (16)")
    add("--upscale-delay", type=float, default=5, help="seconds of too many before there are more replicas (5)")
    add("--downscale-delay", type=float, default=120, help="seconds of too few before there are fewer replicas (120)")
    chosen = parser.parse_args(arguments)
    try:
        settings = _settings(chosen)
        ray_cluster.join(chosen.address)
    except KernelscopeError as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return error.exit_code
    serve.start(
        proxy_location=ProxyLocation.EveryNode,
        http_options=HTTPOptions(host=chosen.host, port=chosen.port),
    )
    try:
        serve.run(deployment(settings, chosen), name=NAME, route_prefix="/")
    except RuntimeError as error:
        print(f"serve.py: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


def _settings(chosen: argparse.Namespace) -> Settings:
    """A replica is one process; what concerns all processes of a service at once is not there: loading by a call."""
    chosen_settings = service_settings.load(models=chosen.models, versions=chosen.versions, workers=1, threads=1)
    whole = service_settings.settled(chosen_settings)
    if not repository.models(whole.models):
        raise UsageError(f"{whole.models} holds no model")
    if not 1 <= chosen.min_replicas <= chosen.max_replicas:
        raise UsageError(
            f"--min-replicas is {chosen.min_replicas} and --max-replicas {chosen.max_replicas}: give 1 or more, "
            "the first not above the second"
        )
    if chosen.target_requests < 1 or chosen.cpus <= 0 or min(chosen.upscale_delay, chosen.downscale_delay) < 0:
        raise UsageError("--target-requests and --cpus must be more than 0, delays not less")
    threads = max(1, min(cores(), int(chosen.cpus)))
    return whole.model_copy(
        update={"models": whole.models.absolute(), "admin_key": "", "threads": threads, "lone_threads": threads}
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
