#!/usr/bin/env bash
# Makes a folder from which Prometheus can watch a cluster that `skiff up` made: prepare.sh DIRECTORY [CLUSTER]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
to="${1:?usage: prepare.sh DIRECTORY [CLUSTER]}"
cluster="${SKIFF_HOME:-/var/lib/skiff}/clusters/${2:-skiff}"
[ -r "$cluster/pki/monitoring.key" ] ||
    { echo "prepare.sh: $cluster/pki/monitoring.key cannot be read: is the cluster up, and are you root?" >&2; exit 1; }

mkdir -p "$to"
install -m 644 "$here/alerts.yml" "$cluster/pki/ca.crt" "$cluster/pki/monitoring.crt" "$to"
install -m 600 "$cluster/pki/monitoring.key" "$to"
# The API server is at the first address of the nodes' network.
network="$(sed -n 's/^nodeNetwork: *//p' "$cluster/cluster.yaml" | tr -d "\"'")"
port="$(sed -n 's/^port: *//p' "$cluster/cluster.yaml")"
sed "s|https://[^/]*/|https://${network%.*}.1:$port/|" "$here/prometheus.yml" > "$to/prometheus.yml"
echo "prometheus --config.file=$to/prometheus.yml"
