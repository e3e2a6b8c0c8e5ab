# The worker's image, in layers from what changes least to what changes most: system, torch, packages, one layer of
# weights per slot, code. A change of code pushes the last few megabytes, a change of one model that model's layer.
#
#   docker buildx bake seedvr2-3b-fp8      one of the ready-made sets of docker-bake.hcl
#   docker build -t worker:0.1.0 .         the same as RunPod makes of this repository, which gives no arguments:
#                                          SeedVR2 3B in fp8 and the bundled model, for a GPU
#
# BASE_IMAGE    Debian bookworm, Ubuntu 24.04 (noble) or an image of one, such as nvidia/cuda:13.0.1-base-ubuntu24.04:
#               their Python is installed if it is missing. The locks have wheels for 3.11 and 3.12, and an image with
#               any other is not built. Pin it by digest in a release (`docker buildx imagetools inspect IMAGE`).
# TORCH_INDEX   whose wheels: they carry CUDA's libraries, the host its driver. Of torch 2.13, cu130 runs on sm_75 to
#               sm_120 and needs a driver of 580 or newer; cu126 on sm_50 to sm_90, for hosts with older ones (no
#               Blackwell); cpu on none. Empty: pip's own index.
# MODEL_1 to 8  what to bake, a slot each: names of `python -m builder.bake --list`, several with spaces between. A file
#               that several slots share lies in the first of them.
# MODELS        what the worker offers unless its environment says otherwise; the first is the default. Give it together
#               with MODEL_1: an image that brings weights must bring those of all that it offers, or it is not built.
# MIRROR        where the weights come from in place of where they are published: https://, s3:// or gs://. It stays in
#               the image's history, and a password in it is refused: that belongs in MIRROR_ENV.
# CATALOG       files of catalogs/ that add models of your own, such as `catalogs/mine.toml`; colons between.
# CONVERT       `-convert` bakes one file per model, in the form that loads fastest.
# RUN_AS        `root`, because RunPod's network volumes belong to root: as anybody else a worker could not deliver to
#               one (`"destination": {"volume": ...}`), nor a pod fill one. What keeps a container from its host is the
#               platform's matter either way. `worker`, without rights, hardens an image that only reads its volume: a
#               flaw in a decoder then reaches neither the code nor the weights there.
#
# Secrets, which no layer keeps: HF_TOKEN for what is published with a gate (`--secret id=HF_TOKEN`); MIRROR_ENV, a file
# of `NAME=value` lines, for a private mirror's credentials (`--secret id=MIRROR_ENV,src=mirror.env`). Each value is
# taken as it stands, as `docker run --env-file` does: no quotes, and a JSON key on one line (`jq -c . key.json`).
#
# Every weight is held to a sha256: the catalog's, or where that knows none the one that engine/catalog.lock.json has
# recorded. A file that neither knows is taken by what its publisher says of it now, anew in each build, until
# `python -m builder.bake --adopt` has put the digest in the image's manifest into that lock.
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
    { apt-get update && \
      DEBIAN_FRONTEND=noninteractive \
          apt-get install -y --no-install-recommends ca-certificates python3 python3-venv && \
      rm -rf /var/lib/apt/lists/*; } && \
    python3 -c "import sys; has = '%d.%d' % sys.version_info[:2]; has in ('3.11', '3.12') or sys.exit( \
        f'BASE_IMAGE has Python {has}, not 3.11 or 3.12: take one of Debian bookworm or Ubuntu 24.04 (noble)')"
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

# What a bake imports and reads, and no more of the code: a change of these files, of their packages, of the base or of
# an argument that a stage declares fetches weights again, a change of anything else does not.
FROM base AS fetch
ENV PATH=/opt/fetch/bin:$PATH
RUN python3 -m venv /opt/fetch
COPY builder/requirements-bake.txt /opt/
RUN pip install --no-cache-dir --require-hashes -r /opt/requirements-bake.txt
WORKDIR /app
COPY catalogs ./catalogs
COPY builder/__init__.py builder/fetch.sh ./builder/
COPY builder/bake ./builder/bake
COPY engine/__init__.py engine/amounts.py engine/catalog.lock.json engine/catalog.py engine/catalog.toml \
     engine/entries.py engine/errors.py engine/locating.py engine/manifests.py engine/settings.py ./engine/
COPY engine/data/bundled-x2.safetensors ./engine/data/
COPY engine/storage/__init__.py engine/storage/addresses.py engine/storage/buckets.py engine/storage/dialling.py \
     engine/storage/disk.py engine/storage/gcs.py engine/storage/hooks.py engine/storage/http.py \
     engine/storage/part.py engine/storage/patience.py engine/storage/s3.py engine/storage/sources.py \
     ./engine/storage/
ARG MIRROR
ARG CATALOG
ENV MIRROR=${MIRROR} \
    CATALOG=${CATALOG}

# One stage per slot, which leaves out what the slots before it bring. An empty slot is an empty layer.
FROM fetch AS model-1
ARG MODEL_1
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_1}"

FROM fetch AS model-2
ARG MODEL_1
ARG MODEL_2
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_2}" ${MODEL_1}

FROM fetch AS model-3
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_3}" ${MODEL_1} ${MODEL_2}

FROM fetch AS model-4
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_4}" ${MODEL_1} ${MODEL_2} ${MODEL_3}

FROM fetch AS model-5
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_5}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4}

FROM fetch AS model-6
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
ARG MODEL_6
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_6}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4} ${MODEL_5}

FROM fetch AS model-7
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
ARG MODEL_6
ARG MODEL_7
RUN --mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV \
    sh builder/fetch.sh "${MODEL_7}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4} ${MODEL_5} ${MODEL_6}

FROM fetch AS model-8
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

# With CONVERT each slot is converted in a stage of its own, which has torch and all of the code, from what was fetched
# before: a change of the code converts anew and downloads nothing.
FROM dependencies AS convert
WORKDIR /app
COPY catalogs ./catalogs
COPY builder ./builder
COPY engine ./engine
ARG CATALOG
ENV CATALOG=${CATALOG} \
    CONVERT=1

FROM convert AS model-1-convert
ARG MODEL_1
COPY --from=model-1 /models /models
RUN sh builder/fetch.sh "${MODEL_1}"

FROM convert AS model-2-convert
ARG MODEL_1
ARG MODEL_2
COPY --from=model-2 /models /models
RUN sh builder/fetch.sh "${MODEL_2}" ${MODEL_1}

FROM convert AS model-3-convert
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
COPY --from=model-3 /models /models
RUN sh builder/fetch.sh "${MODEL_3}" ${MODEL_1} ${MODEL_2}

FROM convert AS model-4-convert
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
COPY --from=model-4 /models /models
RUN sh builder/fetch.sh "${MODEL_4}" ${MODEL_1} ${MODEL_2} ${MODEL_3}

FROM convert AS model-5-convert
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
COPY --from=model-5 /models /models
RUN sh builder/fetch.sh "${MODEL_5}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4}

FROM convert AS model-6-convert
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
ARG MODEL_6
COPY --from=model-6 /models /models
RUN sh builder/fetch.sh "${MODEL_6}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4} ${MODEL_5}

FROM convert AS model-7-convert
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
ARG MODEL_6
ARG MODEL_7
COPY --from=model-7 /models /models
RUN sh builder/fetch.sh "${MODEL_7}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4} ${MODEL_5} ${MODEL_6}

FROM convert AS model-8-convert
ARG MODEL_1
ARG MODEL_2
ARG MODEL_3
ARG MODEL_4
ARG MODEL_5
ARG MODEL_6
ARG MODEL_7
ARG MODEL_8
COPY --from=model-8 /models /models
RUN sh builder/fetch.sh "${MODEL_8}" ${MODEL_1} ${MODEL_2} ${MODEL_3} ${MODEL_4} ${MODEL_5} ${MODEL_6} ${MODEL_7}

# What goes into the image of each slot: what was fetched, or what became of it.
FROM model-1${CONVERT} AS slot-1
FROM model-2${CONVERT} AS slot-2
FROM model-3${CONVERT} AS slot-3
FROM model-4${CONVERT} AS slot-4
FROM model-5${CONVERT} AS slot-5
FROM model-6${CONVERT} AS slot-6
FROM model-7${CONVERT} AS slot-7
FROM model-8${CONVERT} AS slot-8

# HF_HUB_OFFLINE stays unset: the worker never asks the Hub for anything, and the bake that fills a volume has to.
FROM dependencies
ENV PYTORCH_ALLOC_CONF=expandable_segments:True \
    CUDA_MODULE_LOADING=LAZY \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    RUNPOD_INIT_TIMEOUT=800
WORKDIR /app
# Ubuntu 24.04 has a user 1000 already.
RUN useradd --create-home --uid 10001 worker && mkdir outputs && chown worker outputs
COPY --from=slot-1 /models /models
COPY --from=slot-2 /models /models
COPY --from=slot-3 /models /models
COPY --from=slot-4 /models /models
COPY --from=slot-5 /models /models
COPY --from=slot-6 /models /models
COPY --from=slot-7 /models /models
COPY --from=slot-8 /models /models
COPY LICENSE handler.py test_input.json ./
COPY catalogs ./catalogs
COPY builder ./builder
COPY engine ./engine
ARG MODELS=seedvr2-3b-fp8,bundled
ARG CATALOG
ARG RUN_AS=root
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
# As that user the code and every compiled package import, and what the worker offers is known and, where the image
# brings weights, whole.
RUN python -c "import av, handler, numpy, PIL.Image, safetensors, sentencepiece, torch" && python -m builder.offer
# Process 1 is Python itself, which gets the platform's SIGTERM.
CMD ["python", "-u", "handler.py"]
