#!/bin/sh
# Two workers of one ImageNet training, both on this machine:
#
#     examples/two_workers.sh --data_dir=DATA --workdir=runs/two --width=2 --abits=4 ...
#
# All arguments go to train.imagenet. A worker that is lost takes the other one with it, since both
# wait for each other's gradients; each is then started again and resumes at the last checkpoint.
# A mistake in the arguments (status 1) ends both. Environment: PYTHON, the interpreter; PORT, the
# first of two free ports; ATTEMPTS, how often a worker may start.
set -u
PYTHON=${PYTHON:-python3}
PORT=${PORT:-23450}
ATTEMPTS=${ATTEMPTS:-10}
cluster="{\"worker\": [\"127.0.0.1:$PORT\", \"127.0.0.1:$((PORT + 1))\"]}"

worker() {
    index=$1
    shift
    attempt=0
    while [ "$attempt" -lt "$ATTEMPTS" ]; do
        attempt=$((attempt + 1))
        TF_CONFIG="{\"cluster\": $cluster, \"task\": {\"type\": \"worker\", \"index\": $index}}" \
            "$PYTHON" -m train.imagenet --strategy=multiworker "$@"
        status=$?
        [ "$status" -le 1 ] && return "$status"
        echo "worker $index ended with status $status; starting it again" >&2
        sleep 1
    done
    return "$status"
}

trap 'trap - TERM; kill 0' INT TERM
worker 0 "$@" &
first=$!
worker 1 "$@" &
second=$!
wait "$first"
status=$?
wait "$second" || status=$?
exit "$status"
