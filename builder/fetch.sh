#!/bin/sh
# Bakes one slot of the image into /models: fetch.sh "MODEL..." [EARLIER...]
# It leaves out the files that the slots before it bring, and does nothing for an empty slot. Secrets of the builder are
# files: HF_TOKEN holds the token, MIRROR_ENV lines of NAME=value.
set -eu
models=$1
shift
mkdir -p /models
test -n "$models" || exit 0
if test -f /run/secrets/HF_TOKEN; then
    HF_TOKEN=$(cat /run/secrets/HF_TOKEN)
    export HF_TOKEN
fi
if test -f /run/secrets/MIRROR_ENV; then
    set -a
    . /run/secrets/MIRROR_ENV
    set +a
fi
# shellcheck disable=SC2086  # a slot may name several models
exec python -m builder.bake $models ${1:+--besides "$@"} --into /models ${MIRROR:+--from "$MIRROR"} ${CONVERT:+--convert}
