# The worker's image. Today it holds the bundled model; the layers are ordered so that a change of code moves megabytes.
#
#   docker build --platform linux/amd64 -t restoration-worker:VERSION .
#   docker run --rm restoration-worker:VERSION python handler.py        # the self-test: one real job
#
# For a GPU give the torch index of its CUDA; the wheels carry CUDA's libraries, the host its driver:
#   --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
# Pin the base by digest in a release (`docker buildx imagetools inspect IMAGE` prints it): BASE_IMAGE=NAME@sha256:...
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS dependencies
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
RUN pip install --no-cache-dir ${TORCH} ${TORCH_INDEX:+--index-url ${TORCH_INDEX}}
COPY builder/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt

FROM ${BASE_IMAGE}
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CUDA_MODULE_LOADING=LAZY \
    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True \
    RUNPOD_LOG_LEVEL=INFO \
    RUNPOD_INIT_TIMEOUT=800 \
    RUNPOD_MIN_DISK_PERCENT=2 \
    RUNPOD_GPU_BENCHMARK_TIMEOUT=20
RUN useradd --create-home --uid 1000 worker
COPY --from=dependencies /opt/venv /opt/venv
WORKDIR /app
RUN mkdir outputs && chown worker outputs
COPY test_input.json handler.py ./
COPY engine ./engine
# What replies call `worker.revision`: --build-arg REVISION=$(git rev-parse --short HEAD)
ARG REVISION=
RUN test -z "${REVISION}" || echo "${REVISION}" > REVISION
# A network volume mounted by the platform belongs to root: there, run with --user root.
USER worker
CMD ["python", "-u", "handler.py"]
