#!/usr/bin/env bash
# Brings a Debian or Ubuntu machine to where Skiff builds and runs: installs what is missing by
# package name, starts Docker if it does not run. Says what it does; does nothing twice.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "Skiff makes network namespaces and iptables rules: run this as root (sudo make ...)"
command -v cargo >/dev/null || die "no cargo on the PATH: install Rust first (rustup.rs)"

# command -> the package that has it
missing=()
need() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || missing+=("$2"); }
need dockerd docker.io
need docker docker.io
need iptables iptables
need conntrack conntrack
need ip iproute2
need protoc protobuf-compiler
# protoc's own well-known types (google/protobuf/*.proto) are in a package that Debian only recommends.
has() { [ -e "$1" ] || missing+=("$2"); }
has /usr/include/google/protobuf/descriptor.proto libprotobuf-dev
need cc gcc
if [ "${1:-}" = tests ]; then
    need etcd etcd-server
    need strace strace
    need pgrep procps
    need curl curl
    need promtool prometheus
    has "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1" libfaketime
    need kubectl kubernetes-client
    # The system's own Python, whichever else is on the PATH: the tests ask for it by its path.
    has /usr/lib/python3/dist-packages/kubernetes/__init__.py python3-kubernetes
fi
if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # policy-rc.d is not ours to change: the packages of etcd and Prometheus may start a server of their own, which we
    # stop below because nothing of Skiff uses it.
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/tmp/skiff-setup.log 2>&1 ||
        { cat /tmp/skiff-setup.log >&2; die "apt-get could not install ${missing[*]}"; }
    # package -> its service
    quiet() {
        printf '%s\n' "${missing[@]}" | grep -qx "$1" || return 0
        if [ -d /run/systemd/system ]; then
            systemctl disable --now "$2" >/dev/null 2>&1 || true
        else
            service "$2" stop >/dev/null 2>&1 || true
        fi
    }
    quiet etcd-server etcd
    quiet prometheus prometheus
fi

if [ "${1:-}" = tests ] && ! cargo nextest --version >/dev/null 2>&1; then
    say "installing cargo-nextest (once)"
    cargo install --locked --quiet cargo-nextest
fi

if ! docker info >/dev/null 2>&1; then
    say "starting Docker"
    if [ -d /run/systemd/system ]; then
        systemctl start docker
    else
        # No systemd: the service script where there is one, else the daemon itself.
        service docker start >/dev/null 2>&1 || (setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &)
    fi
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && break
        sleep 0.5
    done
    docker info >/dev/null 2>&1 || die "Docker does not answer after 30 s: see /var/log/dockerd.log or journalctl -u docker"
fi
