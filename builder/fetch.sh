#!/bin/sh
# Bakes one slot of the image into /models: fetch.sh "MODEL..." [EARLIER...]
# It leaves out the files that the slots before it bring, downloads nothing that is there already, and does nothing for
# an empty slot. The bake reads MIRROR and the secret HF_TOKEN itself; the secret MIRROR_ENV holds lines of NAME=value,
# taken as they stand.
set -eu
models=$1
shift
mkdir -p /models
test -n "$models" || exit 0

refuse() {
    echo "$1" >&2
    exit 1
}

host=${MIRROR:-}
host=${host#*://}
case ${host%%/*} in
*@*) refuse "MIRROR stays in the image's history, and its password too: give MIRROR=... in the secret MIRROR_ENV" ;;
esac
if test -f /run/secrets/MIRROR_ENV; then
    while IFS= read -r line || test -n "$line"; do
        case $line in "" | "#"*) continue ;; esac
        case ${line%%=*} in
        "$line" | "" | [0-9]* | *[!A-Za-z0-9_]*)
            refuse "the secret MIRROR_ENV has a line that is not NAME=value (a JSON key must be on one line)"
            ;;
        esac
        export "$line"
    done </run/secrets/MIRROR_ENV
fi
# shellcheck disable=SC2086  # a slot may name several models
exec python -m builder.bake $models ${1:+--besides "$@"} --into /models ${CONVERT:+--convert}
