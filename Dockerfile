# Images: `serve`, the default, answers over HTTP; `train` makes models, and so does `train-gpu`, on an NVIDIA GPU. They
# share a user and the models that ship, not their packages: there is no TensorFlow in the first and no FastAPI in the
# others.
#
#   docker build --tag kernelscope .
#   docker build --tag kernelscope-train --target train .
#   docker build --tag kernelscope-train-gpu --target train-gpu .
#
# Behind a package mirror or a certificate of one's own, pip's settings are lent to the build and stay out of the images
# (in pip.conf the certificate is `cert = /run/secrets/ca.crt`):
#   docker build --secret id=pip.conf,src=pip.conf --secret id=ca.crt,src=ca.crt .

FROM python:3.12-slim-bookworm AS base
# onnxruntime's Linux wheels report on models and machine to their maker unless they are told not to.
ENV PATH=/opt/kernelscope/bin:$PATH PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1


# pip and setuptools live in a virtual environment of their own, so that the one which ships holds neither.
FROM base AS tools
ENV PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/kernelscope
COPY requirements/build.txt requirements/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    /opt/tools/bin/pip install --require-hashes -r requirements/build.txt

FROM tools AS project
COPY . .
RUN /opt/tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels .

FROM tools AS serve-packages
COPY requirements/serve.txt requirements/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    /opt/tools/bin/pip --python /opt/kernelscope install --require-hashes -r requirements/serve.txt
COPY --from=project /wheels /wheels
COPY deploy/slim.py .
RUN /opt/tools/bin/pip --python /opt/kernelscope install --no-index --no-deps /wheels/*.whl \
    && python3 slim.py /opt/kernelscope

FROM tools AS train-packages
COPY requirements/train.txt requirements/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    /opt/tools/bin/pip --python /opt/kernelscope install --require-hashes -r requirements/train.txt
COPY --from=project /wheels /wheels
RUN /opt/tools/bin/pip --python /opt/kernelscope install --no-index --no-deps /wheels/*.whl

FROM tools AS train-gpu-packages
COPY requirements/train-gpu.txt requirements/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    /opt/tools/bin/pip --python /opt/kernelscope install --require-hashes -r requirements/train-gpu.txt
COPY --from=project /wheels /wheels
RUN /opt/tools/bin/pip --python /opt/kernelscope install --no-index --no-deps /wheels/*.whl


# One user with one number in all images: what `train` writes to a volume, `serve` reads.
FROM base AS user
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin kernelscope \
    && install --directory --owner=kernelscope --group=kernelscope /models /runs
WORKDIR /
ENTRYPOINT ["kernelscope"]

# Checkpoints and logs go to ./runs/<name>-<recipe>, which is in /runs; decoded images are kept beside them, and so is
# what Keras would write to a home.
FROM user AS trainer
ENV KERNELSCOPE_CACHE=/runs/cache KERAS_HOME=/runs/cache/keras
COPY --chown=10001:10001 models /models
USER 10001:10001
CMD ["train", "--data", "/data", "--output", "/models", "--resume"]

FROM trainer AS train
COPY --from=train-packages /opt/kernelscope /opt/kernelscope
VOLUME ["/models", "/runs"]

# CUDA is in the packages; NVIDIA's container toolkit lends the driver. Without a GPU this is an error: JAX must find CUDA.
FROM trainer AS train-gpu
ENV KERAS_BACKEND=jax JAX_PLATFORMS=cuda,cpu NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=train-gpu-packages /opt/kernelscope /opt/kernelscope
VOLUME ["/models", "/runs"]

FROM user AS serve
# A load balancer has KERNELSCOPE_DRAIN_DELAY seconds from SIGTERM to send its requests elsewhere; how long an engine waits
# before it kills follows from that: the delay, KERNELSCOPE_DRAIN_TIMEOUT, and five seconds.
ENV KERNELSCOPE_HOST=0.0.0.0 KERNELSCOPE_PORT=8000 KERNELSCOPE_MODELS=/models KERNELSCOPE_DRAIN_DELAY=5
COPY --from=serve-packages /opt/kernelscope /opt/kernelscope
COPY --chown=10001:10001 models /models
USER 10001:10001
VOLUME ["/models"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python3", "-m", "service.healthcheck"]
CMD ["serve"]
