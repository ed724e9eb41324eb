# The image of Horologe: nodes, workers and the command line, as a user without rights, on a root that may be read-only.
#
# `docker build -t horologe .`, then docker-compose.yml or ops/kubernetes. docs/deploying.md tells the rest.

# To have the same image next year, name a digest: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY ops/locks ops/locks
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement ops/locks/build.txt
# Not isolated: what has no wheel is built with the setuptools of the lock.
RUN /opt/build/bin/pip wheel --require-hashes --no-build-isolation --wheel-dir /wheels --requirement ops/locks/runtime.txt
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/horologe \
    && /opt/build/bin/pip --python /opt/horologe install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/horologe /opt/horologe
# What a volume is mounted over belongs to the user, so that an empty volume does too.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/horologe horologe \
    && install --directory --owner horologe --group horologe --mode 700 \
        /var/lib/horologe /tls/authority /tls/nodes /tls/workers /tls/admin \
    && install --directory --owner horologe --group horologe --mode 755 /tls/trust
ENV PATH=/opt/horologe/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/horologe
# 7400 people and programs, 7500 the other nodes, 7600 workers, 7700 dashboard and HTTP API.
EXPOSE 7400 7500 7600 7700
# Of a node. A worker has no port: the cluster knows which ones it has heard of lately (`horologe worker list`).
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["horologe", "node", "probe"]
# The program is process 1 itself: SIGTERM reaches it, a node then hands over and a worker drains.
STOPSIGNAL SIGTERM
ENTRYPOINT ["horologe"]
CMD ["--help"]
