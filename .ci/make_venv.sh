#!/bin/sh
# make_venv.sh PYTHON FOLDER: creates a virtual environment, with the Debian package for it when that is missing.
set -eu
python=$1
folder=$2

if ! command -v "$python" >/dev/null; then
    echo "$python is not installed: apt-get install python3, or name another with make PYTHON=..." >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "densefit needs Python 3.11 or later; $python is $("$python" -V). Name another with make PYTHON=..." >&2
    exit 1
fi
# Debian splits venv's pip out of python3; without it `-m venv` leaves half an environment behind.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package"
    else
        echo "$python cannot create virtual environments. Install it, then run make again:" >&2
        echo "    sudo apt-get install -y $package" >&2
        exit 1
    fi
fi
"$python" -m venv "$folder"
