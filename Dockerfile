# A worker, and every other command, for machines with an NVIDIA GPU or none. CUDA's libraries come
# with torch, so the base needs nothing of them: the driver is the host's, by NVIDIA's container
# toolkit. BASE has to have Python 3.11 as `python`.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
ARG UV=uv==0.13.9
ENV SAM2_BUILD_CUDA=0 UV_LINK_MODE=copy UV_CACHE_DIR=/uv
RUN python -m venv /tools && /tools/bin/python -m pip install --quiet --no-cache-dir ${UV}
RUN python -m venv --without-pip /opt/adaptivedrag
WORKDIR /source
COPY pyproject.toml requirements.lock ./
# Of the lock file what commands need, and not what tests do; every file by its hash.
RUN --mount=type=cache,target=/uv \
    /tools/bin/uv pip install --quiet --python /opt/adaptivedrag/bin/python --compile-bytecode \
      --require-hashes --constraint requirements.lock \
      --requirement pyproject.toml --extra dask --extra parquet --extra webdataset

FROM packages AS project
COPY . .
RUN --mount=type=cache,target=/uv \
    /tools/bin/uv pip install --quiet --python /opt/adaptivedrag/bin/python --compile-bytecode \
      --no-deps --target /project .

FROM ${BASE}
# Numbers, so that Kubernetes can tell that it is not root.
RUN useradd --uid 10001 --home-dir /cache --no-create-home --shell /usr/sbin/nologin adaptivedrag \
    && install --directory --mode=1777 /cache
COPY --from=packages /opt/adaptivedrag /opt/adaptivedrag
COPY --from=project /project /opt/project
USER 10001:10001
WORKDIR /jobs
ENV PATH=/opt/project/bin:/opt/adaptivedrag/bin:$PATH \
    PYTHONPATH=/opt/project \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    # The one place that is written to, besides store and results.
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    TMPDIR=/cache \
    PREFECT_HOME=/cache/prefect \
    PREFECT_PROFILES_PATH=/opt/project/flows/profiles.toml \
    # Models are mounted, never fetched: folders of any name, or a hub's cache as /models/hub.
    HF_HOME=/models \
    HF_HUB_OFFLINE=1 \
    TORCH_HOME=/models/torch \
    DO_NOT_TRACK=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /cache
ENTRYPOINT ["adaptivedrag"]
CMD ["worker", "--metrics", "127.0.0.1:9100"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9100/metrics', timeout=5)"]
