#!/usr/bin/env bash
# Asks every node for the guestbook's page, as a browser on this machine would.
set -euo pipefail
for address in $(skiffctl get nodes -o wide --no-headers | awk '{ print $6 }'); do
    printf 'http://%s:30080  ->  ' "$address"
    curl --silent --show-error --fail --max-time 10 --retry 10 --retry-delay 1 --retry-connrefused "http://$address:30080/"
done
