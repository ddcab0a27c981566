#!/bin/sh
# Every integer of LiteRT on emulated aarch64 against the NumPy executor.
#
#   python -m benchmarks.runtime_cases --output=runs/cases runs/digits runs/resnet20
#   benchmarks/arm_check.sh runs/cases [CACHE]
#
# Needs Debian's qemu-user-static (or qemu-user), apt-get, dpkg and a pip; no root, nothing is
# installed: an aarch64 Python of Debian 12 and the wheels are unpacked in CACHE (about 120 MB).
set -eu
cases=$(realpath "$1")
cache=$(realpath -m "${2:-${XDG_CACHE_HOME:-$HOME/.cache}/wrpn_tf-arm}")
here=$(realpath "$(dirname "$0")")
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || {
    echo "error: no qemu-aarch64; on Debian: apt-get install qemu-user-static" >&2; exit 1; }

if [ ! -e "$cache/ready" ]; then
    mkdir -p "$cache/state/lists/partial" "$cache/archives/partial" "$cache/root" "$cache/wheels"
    : > "$cache/status"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keyring] http://deb.debian.org/debian bookworm main" > "$cache/sources"
    cat > "$cache/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Dir::Cache "$cache";
Dir::Etc::sourcelist "$cache/sources";
Dir::Etc::sourceparts "-";
Dir::State "$cache/state";
Dir::State::status "$cache/status";
END
    export APT_CONFIG="$cache/apt.conf"
    apt-get -q update
    (cd "$cache/archives" && apt-get -q download libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 \
        libssl3 libffi8 libbz2-1.0 liblzma5 libpython3.11-minimal libpython3.11-stdlib \
        python3.11-minimal)
    for package in "$cache"/archives/*.deb; do dpkg -x "$package" "$cache/root"; done
    "${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: \
        --python-version 3.11 --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
        --dest "$cache/wheels" ai-edge-litert==2.3.0 numpy flatbuffers tqdm typing-extensions \
        protobuf backports.strenum
    for wheel in "$cache"/wheels/*.whl; do
        "${PYTHON:-python3}" -m zipfile -e "$wheel" "$cache/site"
    done
    touch "$cache/ready"
fi
PYTHONPATH="$cache/site" exec "$qemu" -L "$cache/root" "$cache/root/usr/bin/python3.11" \
    "$here/runtime_check.py" "$cases"
