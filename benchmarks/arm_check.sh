#!/bin/sh
# Every integer of LiteRT on emulated aarch64 against the NumPy executor.
#
#   python -m benchmarks.runtime_cases --output=runs/cases runs/digits runs/resnet20
#   benchmarks/arm_check.sh runs/cases [CACHE]
#
# QEMU_CPU=cortex-a72 (a Raspberry Pi 4) emulates that processor; default: all that qemu knows.
# Needs apt-get, dpkg, Debian's keyring and a Python with pip; no root, nothing is installed: qemu
# and an aarch64 Python, both of Debian 13, and the wheels are unpacked in CACHE (170 MB).
# The qemu 7.2 of Debian 12 will not do: its /proc/cpuinfo is the host's, on which LiteRT crashes.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 CASES [CACHE]" >&2; exit 2; }
cases=$(realpath "$1")
cache=$(realpath -m "${2:-${XDG_CACHE_HOME:-$HOME/.cache}/wrpn_tf-arm}")
here=$(realpath "$(dirname "$0")")

if [ ! -e "$cache/ready" ]; then
    rm -rf "$cache/usr" "$cache/root" "$cache/site" "$cache/archives" "$cache/wheels"
    mkdir -p "$cache/state/lists/partial" "$cache/archives/partial" "$cache/root/usr/lib"
    ln -s usr/lib "$cache/root/lib"
    : > "$cache/status"
    host=$(dpkg --print-architecture)
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keyring] http://deb.debian.org/debian trixie main" > "$cache/sources"
    cat > "$cache/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; "$host"; };
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Dir::Cache "$cache";
Dir::Etc::sourcelist "$cache/sources";
Dir::Etc::sourceparts "-";
Dir::State "$cache/state";
Dir::State::status "$cache/status";
CONF
    export APT_CONFIG="$cache/apt.conf"
    apt-get -q update
    cd "$cache/archives"
    apt-get -q download "qemu-user:$host" libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3t64 \
        libffi8 libbz2-1.0 liblzma5 libpython3.13-minimal libpython3.13-stdlib python3.13-minimal
    dpkg-deb --fsys-tarfile qemu-user_*.deb | tar -x -C "$cache" ./usr/bin/qemu-aarch64
    rm qemu-user_*.deb
    for package in *.deb; do dpkg -x "$package" "$cache/root"; done
    "${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: \
        --python-version 3.13 --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
        --dest "$cache/wheels" ai-edge-litert==2.3.0 numpy
    for wheel in "$cache"/wheels/*.whl; do
        "${PYTHON:-python3}" -m zipfile -e "$wheel" "$cache/site"
    done
    rm -r "$cache/archives" "$cache/wheels" "$cache/state"
    touch "$cache/ready"
fi
"$cache/usr/bin/qemu-aarch64" --version | head -n 1
PYTHONPATH="$cache/site" exec "$cache/usr/bin/qemu-aarch64" -L "$cache/root" \
    "$cache/root/usr/bin/python3.13" "$here/runtime_check.py" "$cases"
