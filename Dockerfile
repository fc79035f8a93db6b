# Prunery as an image. Two targets of one program:
#
#   docker build --target cpu  --tag prunery:cpu  --build-arg TORCH_INDEX=<index with CPU builds of torch> .
#   docker build --target cuda --tag prunery:cuda .
#
# TORCH_INDEX: package index from which torch, and only torch, is installed. Empty: the default index, whose torch for
# Linux brings its own CUDA libraries. Such an image runs without a GPU as well; it is only larger by some GB.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS python
ENV PATH=/opt/prunery/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1


# The dependencies alone, so that a change of the program leaves these gigabytes in the cache.
FROM python AS dependencies
WORKDIR /src
RUN python -m venv /opt/prunery
COPY constraints.txt ./
ARG TORCH_INDEX=""
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ -n "$TORCH_INDEX" ]; then export PIP_INDEX_URL="$TORCH_INDEX"; fi; \
    pip install --constraint constraints.txt torch
COPY pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; print('\n'.join(project['dependencies'] + [r for extra in ('hf', 'otel') for r in project['optional-dependencies'][extra]]))" > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt


# What the environment is made of, as CycloneDX. The program that lists it does not come into the image.
FROM dependencies AS sbom
COPY deploy/sbom.sh ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/sbom \
    && /opt/sbom/bin/pip install --constraint constraints.txt cyclonedx-bom \
    && ./sbom.sh /opt/prunery/bin/python /src/sbom.cdx.json /opt/sbom/bin/cyclonedx-py


FROM python AS wheel
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheel .


FROM python AS runtime
# Nothing outside /data, /scratch and /tmp is written, so the rest may be mounted read-only.
ENV HOME=/data \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PRUNERY_HOST=0.0.0.0 \
    PRUNERY_PORT=8000 \
    PRUNERY_DATA_DIR=/data \
    PRUNERY_SCRATCH_DIR=/scratch
RUN groupadd --system --gid 10001 prunery \
    && useradd --system --uid 10001 --gid prunery --home-dir /data --no-create-home --shell /usr/sbin/nologin prunery \
    && install --directory --owner=prunery --group=prunery /data /scratch
# Where the container may make namespaces, models run in them; elsewhere Landlock and seccomp do (docs/architecture/sandbox.md).
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/*
COPY --from=dependencies /opt/prunery /opt/prunery
COPY --from=sbom /src/sbom.cdx.json /opt/prunery/sbom.cdx.json
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps /wheel/*.whl
WORKDIR /data
USER 10001:10001
VOLUME ["/data", "/scratch"]
EXPOSE 8000
# Of an API, whatever its certificate. A container that runs a worker is asked by: python -m worker.health
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "service.health"]
CMD ["prunery", "up"]


FROM runtime AS cpu


FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Fails the build, rather than a job later, where TORCH_INDEX gave a torch without CUDA.
RUN ["python", "-c", "import sys, torch; sys.exit(None if torch.version.cuda else 'this torch was built without CUDA: leave TORCH_INDEX empty')"]
