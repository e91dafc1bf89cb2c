# The worker's image: `docker build -t spoolway .`, then `docker run spoolway worker|db|health ...`.
# docs/deployment.md has how it is run.

# Packages are pinned to the version. The base is not pinned to a digest: building anew with --pull is
# how Debian's and Python's security fixes come in. For a build that is the same for ever, hand a
# digest over: --build-arg PYTHON=3.13-slim-bookworm@sha256:...
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src

# Pinned packages first: this layer is rebuilt when a pin changes, not when a source file does.
COPY requirements.txt requirements-worker.txt ./
RUN python -m venv /opt/spoolway \
    && /opt/spoolway/bin/pip install -r requirements-worker.txt
# What builds the wheel stays in this stage. requirements.txt only constrains its versions.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install -c requirements.txt hatchling

COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/spoolway/bin/pip install --no-deps --no-index /dist/spoolway-*.whl \
    && /opt/spoolway/bin/pip check


FROM python:${PYTHON}
LABEL org.opencontainers.image.title="spoolway" \
      org.opencontainers.image.description="Moves the logs of an LLM proxy from Redis into a database" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# A fixed uid, so that a mounted volume's owner can be set from outside. The folder is made here:
# a new named volume takes over its owner and mode, and the worker could not create it itself.
RUN groupadd --system --gid 10001 spoolway \
    && useradd --system --uid 10001 --gid 10001 --no-create-home \
        --home-dir /var/lib/spoolway --shell /usr/sbin/nologin spoolway \
    && install --directory --owner=spoolway --group=spoolway --mode=0700 /var/lib/spoolway
COPY --from=build /opt/spoolway /opt/spoolway

# The root file system can be mounted read-only: everything that is written goes to SPOOLWAY_DIR.
ENV PATH=/opt/spoolway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SPOOLWAY_DIR=/var/lib/spoolway
USER 10001:10001
WORKDIR /var/lib/spoolway
VOLUME ["/var/lib/spoolway"]

# /healthz, /readyz and /metrics, once SPOOLWAY_HTTP_PORT and SPOOLWAY_HTTP_HOST say so: in a container
# the default, its own loopback address, would reach nobody.
EXPOSE 9464

# SIGTERM is the clean stop: finish the batch, acknowledge it, close, within 10 s. `docker stop` waits
# for just as long, so give it more: --time 15 (compose.yml: stop_grace_period).
STOPSIGNAL SIGTERM
# Health is progress, not a living process; `spoolway health` exits non-zero without it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["spoolway", "health"]
ENTRYPOINT ["spoolway"]
CMD ["worker"]
