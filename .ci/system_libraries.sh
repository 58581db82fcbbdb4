#!/bin/sh
# Makes sure that the shared libraries which open3d and opencv-python load, but do not carry, are on this machine.
# Installs the missing Debian packages when run as root; otherwise prints the command that does, and fails.
set -eu

# soname and the Debian package that has it (readelf -d of the wheels' libraries, less what every Debian has)
needed="
libusb-1.0.so.0     libusb-1.0-0
libGL.so.1          libgl1
libEGL.so.1         libegl1
libX11.so.6         libx11-6
libXext.so.6        libxext6
libxcb.so.1         libxcb1
libSM.so.6          libsm6
libICE.so.6         libice6
libidn2.so.0        libidn2-0
libudev.so.1        libudev1
libglib-2.0.so.0    libglib2.0-0
libgthread-2.0.so.0 libglib2.0-0
libgomp.so.1        libgomp1
"

PATH="$PATH:/sbin:/usr/sbin"
known=$(ldconfig -p)
missing=$(echo "$needed" | while read -r soname package; do
    [ -n "$soname" ] || continue
    case "$known" in *"$soname "*) ;; *) echo "$package" ;; esac
done | sort -u | tr '\n' ' ')

[ -n "$missing" ] || exit 0
command="apt-get install -y --no-install-recommends $missing"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing system libraries: $missing"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $command
else
    echo "open3d and opencv need system libraries that are missing here. Install them, then run make again:" >&2
    echo "    sudo $command" >&2
    exit 1
fi
