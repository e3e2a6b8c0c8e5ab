#!/bin/sh
# Bakes one slot of the image into /models: fetch.sh "MODEL..." [EARLIER...]
# It leaves out the files that the slots before it bring, and does nothing for an empty slot. The bake reads the secret
# HF_TOKEN itself; MIRROR_ENV holds lines of NAME=value.
set -eu
models=$1
shift
mkdir -p /models
test -n "$models" || exit 0
if test -f /run/secrets/MIRROR_ENV; then
    set -a
    . /run/secrets/MIRROR_ENV
    set +a
fi
# shellcheck disable=SC2086  # a slot may name several models
exec python -m builder.bake $models ${1:+--besides "$@"} --into /models ${MIRROR:+--from "$MIRROR"} ${CONVERT:+--convert}
