#!/usr/bin/env bash
# Brings onto the machine what pip cannot: a virtual environment, and packages of Debian or Ubuntu.
#   prepare.sh venv FOLDER | rabbitmq | chromium | make
set -euo pipefail

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# install PACKAGE WHAT_ELSE_TO_DO
install() {
    command -v apt-get >/dev/null || fail "$1 is missing and there is no apt-get to install it with: $2."
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "$1 is missing: install it as root (apt-get install $1), or $2."
        as_root=(sudo)
    fi
    echo "Installing the package $1 (once)"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 --yes --quiet)
    local log
    log=$(mktemp)
    if ! "${apt[@]}" install --no-install-recommends "$1" </dev/null >"$log" 2>&1; then
        "${apt[@]}" update </dev/null >"$log" 2>&1 || true
        "${apt[@]}" install --no-install-recommends "$1" </dev/null >"$log" 2>&1 || {
            tail -n 5 "$log" >&2
            rm -f "$log"
            fail "The package $1 could not be installed: put that right, or $2."
        }
    fi
    rm -f "$log"
}

# The first interpreter that the pinned dependencies are made for.
find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11, 3.12 or 3.13 is missing: install one of them (on Debian 12 or Ubuntu 24.04: apt-get install python3)."
}

case "${1-}" in
venv)
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        install "$version-venv" "use a Python that brings the module ensurepip"
    fi
    echo "Making the virtual environment $2 with $("$python" --version)"
    "$python" -m venv "$2"
    ;;
rabbitmq)
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || install rabbitmq-server "set AMQP_URI to a RabbitMQ that runs"
    ;;
chromium)
    # Ubuntu's package of that name is a snap; Chrome does as well.
    command -v chromium >/dev/null || command -v google-chrome >/dev/null || install chromium "install a Chromium by hand"
    ;;
make)
    command -v make >/dev/null || install make "install make by hand"
    ;;
*)
    fail "usage: prepare.sh venv FOLDER | rabbitmq | chromium | make"
    ;;
esac
