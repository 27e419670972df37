#!/bin/sh
# Decode all vectors on an emulated aarch64 Linux, where constriction has no wheel.
#
#   sudo apt-get install qemu-user-static && sudo dpkg --add-architecture arm64 && sudo apt-get update
#   tests/aarch64.sh [FOLDER]
#
# Puts Debian's Python for arm64 and NumPy's wheel into FOLDER (by default runs/aarch64) without
# installing either, and runs tests/check_vectors.py there. Run by hand before a release and not in
# .ci/run, because it needs Debian, apt and the network.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
folder=${1:-$root/runs/aarch64}
mkdir -p "$folder/system" "$folder/packages" "$folder/site"
cd "$folder/packages"
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
apt-get download "python$version-minimal:arm64" "libpython$version-minimal:arm64" \
    "libpython$version-stdlib:arm64" libc6:arm64 libgcc-s1:arm64 libstdc++6:arm64 zlib1g:arm64 \
    libexpat1:arm64 libssl3:arm64 libffi8:arm64 libbz2-1.0:arm64 liblzma5:arm64
for package in *.deb; do dpkg -x "$package" "$folder/system"; done
python3 -m pip download --no-deps --only-binary=:all: --python-version "$version" \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 --dest . numpy
for wheel in *.whl; do python3 -m zipfile -e "$wheel" "$folder/site"; done

PYTHONPATH=$folder/site exec qemu-aarch64-static -L "$folder/system" \
    "$folder/system/usr/bin/python$version" "$root/tests/check_vectors.py"
