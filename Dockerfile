# The worker's image, in layers from what changes least to what changes most: system, torch, packages, one layer of
# weights per slot, code. A change of code pushes the last few megabytes, a change of one model that model's layer.
#
#   docker buildx bake seedvr2-3b-fp8      one of the ready-made sets of docker-bake.hcl
#   docker build -t worker:0.1.0 .         the same as RunPod makes of this repository, which gives no arguments:
#                                          SeedVR2 3B in fp8 and the bundled model, for a GPU
#
# BASE_IMAGE    any Debian or Ubuntu, such as nvidia/cuda:13.0.1-base-ubuntu24.04; Python 3.11 or 3.12 is installed where
#               it lacks one. Pin it by digest in a release (`docker buildx imagetools inspect IMAGE` prints it).
# TORCH_INDEX   whose wheels: they carry CUDA's libraries, the host its driver. Of torch 2.13, cu130 runs on sm_75 to
#               sm_120 and needs a driver of 580 or newer; cu126 on sm_50 to sm_90, for hosts with older ones (no
#               Blackwell); cpu on none. Empty: pip's own index.
# MODEL_1 to 8  what to bake, a slot each: names of `python -m builder.bake --list`, several with spaces between. A file
#               that several slots share lies in the first of them.
# MODELS        what the worker offers unless its environment says otherwise; the first is the default.
# MIRROR        where the weights come from in place of where they are published: https://, s3:// or gs://.
# CATALOG       files of catalogs/ that add models of your own, such as `catalogs/mine.toml`; colons between.
# CONVERT       `-convert` bakes one file per model, in the form that loads fastest.
# RUN_AS        `root` where a network volume belongs to root and results are to be written to it.
#
# Secrets, which no layer keeps: HF_TOKEN for what is published with a gate (`--secret id=HF_TOKEN`); MIRROR_ENV, a file
# of `NAME=value` lines, for a private mirror's credentials (`--secret id=MIRROR_ENV,src=mirror.env`).
ARG BASE_IMAGE=python:3.12-slim-bookworm
ARG CONVERT=
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG MIRROR=
ARG CATALOG=
ARG MODEL_1=seedvr2-3b-fp8
ARG MODEL_2=
ARG MODEL_3=
ARG MODEL_4=
ARG MODEL_5=
ARG MODEL_6=
ARG MODEL_7=
ARG MODEL_8=

FROM ${BASE_IMAGE} AS base
RUN python3 -c "import ensurepip, venv" 2>/dev/null || \
    { apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv && \
      rm -rf /var/lib/apt/lists/*; }
ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# What the worker runs with, and what filling a network volume needs. The locks come first, so that torch takes its pure
# dependencies from there.
FROM base AS dependencies
ARG TORCH
ARG TORCH_INDEX
ENV PATH=/opt/venv/bin:$PATH
RUN python3 -m venv /opt/venv
COPY builder/requirements.txt builder/requirements-bake.txt /opt/
RUN pip install --no-cache-dir --require-hashes -r /opt/requirements.txt -r /opt/requirements-bake.txt
RUN pip install --no-cache-dir ${TORCH} ${TORCH_INDEX:+--index-url ${TORCH_INDEX}}

# Fetching weights needs little, and nothing of the rest of the code: what changes there does not fetch anything again.
FROM base AS fetch
ENV PATH=/opt/fetch/bin:$PATH
RUN python3 -m venv /opt/fetch
COPY builder/requirements-bake.txt /opt/
RUN pip install --no-cache-dir --require-hashes -r /opt/requirements-bake.txt
WORKDIR /app
COPY catalogs ./catalogs
COPY builder/__init__.py builder/fetch.sh ./builder/
COPY builder/bake ./builder/bake
COPY engine/__init__.py engine/catalog.lock.json engine/catalog.py engine/catalog.toml engine/entries.py \
     engine/errors.py engine/locating.py engine/settings.py engine/version.py ./engine/
COPY engine/data ./engine/data
COPY engine/storage ./engine/storage
ARG MIRROR
ARG CATALOG
ENV MIRROR=${MIRROR} \
    CATALOG=${CATALOG}

# Converting needs torch and the engine that reads checkpoints.
FROM dependencies AS fetch-convert
WORKDIR /app
COPY catalogs ./catalogs
COPY builder ./builder
COPY engine ./engine
ARG MIRROR
ARG CATALOG
ENV MIRROR=${MIRROR} \
    CATALOG=${CATALOG} \
    CONVERT=1

# One stage per slot, which leaves out what the slots before it bring. An empty slot is an empty layer.
FROM fetch${CONVERT} AS model-1
ARG MODEL_1
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_1}"

FROM fetch${CONVERT} AS model-2
ARG MODEL_1
ARG MODEL_2
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_2}" ${MODEL_1}

FROM fetch${CONVERT} AS model-3
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_3}" ${MODEL_1} ${MODEL_2}

FROM fetch${CONVERT} AS model-4
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_4}" ${MODEL_1} ${MODEL_2} ${MODEL_3}

FROM fetch${CONVERT} AS model-5
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_5}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4}

FROM fetch${CONVERT} AS model-6
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
ARG MODEL_6
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_6}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4} ${MODEL_5}

FROM fetch${CONVERT} AS model-7
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
ARG MODEL_6
ARG MODEL_7
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_7}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4} ${MODEL_5} ${MODEL_6}

FROM fetch${CONVERT} AS model-8
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
ARG MODEL_6
ARG MODEL_7
ARG MODEL_8
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_8}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4} ${MODEL_5} ${MODEL_6} ${MODEL_7}

FROM dependencies
ENV PYTORCH_ALLOC_CONF=expandable_segments:True \
    CUDA_MODULE_LOADING=LAZY \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    RUNPOD_INIT_TIMEOUT=800
WORKDIR /app
RUN useradd --create-home --uid 1000 worker && mkdir outputs && chown worker outputs
COPY --from=model-1 /models /models
COPY --from=model-2 /models /models
COPY --from=model-3 /models /models
COPY --from=model-4 /models /models
COPY --from=model-5 /models /models
COPY --from=model-6 /models /models
COPY --from=model-7 /models /models
COPY --from=model-8 /models /models
COPY LICENSE handler.py test_input.json ./
COPY catalogs ./catalogs
COPY builder ./builder
COPY engine ./engine
ARG MODELS=seedvr2-3b-fp8,bundled
ARG CATALOG
ARG RUN_AS=worker
# What replies call `worker.revision`, and where the code is from.
ARG REVISION=
ARG VERSION=
ARG SOURCE=
ENV MODELS=${MODELS} \
    CATALOG=${CATALOG}
RUN test -z "${REVISION}" || echo "${REVISION}" > REVISION; \
    python -m compileall -q --invalidation-mode unchecked-hash handler.py builder engine
LABEL org.opencontainers.image.title="Restoration worker" \
      org.opencontainers.image.description="RunPod Serverless worker that restores, enlarges and generates video" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER ${RUN_AS}
# The code imports as that user, and the catalog has every model that the worker offers.
RUN python -c "import handler; from engine.jobs.desk import Desk; desk = Desk.from_settings(handler.Settings.from_env()); \
    assert all(map(desk.catalog.find, desk.settings.models)), desk.settings.models"
# Process 1 is Python itself, which gets the platform's SIGTERM.
CMD ["python", "-u", "handler.py"]
