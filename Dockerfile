# syntax=docker/dockerfile:1
# One image for every process of Phoenix: serve, worker, migrate, or any other command.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# Extras of pyproject.toml to install beside the runtime, separated by blanks.
ARG EXTRAS="kubernetes"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
WORKDIR /build
COPY poetry.lock ./
COPY requirements/runtime.txt requirements/runtime.txt
COPY docker/extras.py docker/extras.py
# Hydra's antlr4-python3-runtime is published as a source archive only; all else must be a wheel.
# hadolint ignore=SC2086
RUN python -m venv /opt/phoenix \
    && python docker/extras.py poetry.lock ${EXTRAS} > requirements/extras.txt \
    && /opt/phoenix/bin/python -m pip install --require-hashes \
        --only-binary=:all: --no-binary=antlr4-python3-runtime \
        -r requirements/runtime.txt -r requirements/extras.txt
COPY phoenix /opt/phoenix/app/phoenix
COPY docker/entrypoint.sh docker/healthcheck.py /opt/phoenix/docker/
RUN /opt/phoenix/bin/python docker/extras.py --install /opt/phoenix \
    && /opt/phoenix/bin/python -m compileall -q /opt/phoenix/app /opt/phoenix/lib

FROM ${PYTHON_IMAGE} AS sbom
RUN python -m pip install --no-cache-dir --disable-pip-version-check cyclonedx-bom==7.5.0
COPY --from=build /opt/phoenix /opt/phoenix
RUN cyclonedx-py environment /opt/phoenix --output-reproducible --output-format JSON --output-file /sbom.cdx.json

FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="Phoenix" \
      org.opencontainers.image.description="Turns a written requirement into delivered, verified software." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Their versions are those of the base image's Debian release, which a digest in PYTHON_IMAGE fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap ca-certificates git ripgrep tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 phoenix \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin phoenix \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/phoenix
COPY --from=build /opt/phoenix /opt/phoenix
COPY --from=sbom /sbom.cdx.json /usr/share/phoenix/sbom.cdx.json
ENV PATH=/opt/phoenix/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PHOENIX_HOME=/var/lib/phoenix \
    PHOENIX_HOST=0.0.0.0 \
    PHOENIX_PORT=8400 \
    PHOENIX_LOG_FORMAT=json \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/phoenix
VOLUME /var/lib/phoenix
EXPOSE 8400 8401
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/phoenix/docker/healthcheck.py"]
ENTRYPOINT ["tini", "--", "/opt/phoenix/docker/entrypoint.sh"]
CMD ["serve"]
