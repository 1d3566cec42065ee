#!/bin/sh
# Runs one task: the payload comes on standard input, the result goes to standard output.
set -eu

case "$PENSTOCK_TASK_TYPE" in
words)
    exec perl "${0%/*}/words.pl"
    ;;
checksum)
    # A pipe ends with the status of its last program, so what can fail stands alone.
    sum=$(sha256sum)
    echo "${sum%% *}"
    ;;
wait)
    # A task that is cancelled, or out of time, gets SIGTERM: here is room to tidy up.
    trap 'echo "interrupted, tidying up" >&2; exit 1' TERM
    read -r seconds || true
    case "$seconds" in
    '' | *[!0-9]*)
        echo "the payload must be a whole number of seconds, is '$seconds'" >&2
        exit 65 # EX_DATAERR: the same payload would fail again
        ;;
    esac
    sleep "$seconds" & # in the background, so that the shell hears the signal
    wait $!
    echo "waited $seconds s, attempt $PENSTOCK_TASK_ATTEMPT of $PENSTOCK_TASK_ID"
    ;;
*)
    echo "no such type: $PENSTOCK_TASK_TYPE" >&2
    exit 65
    ;;
esac
