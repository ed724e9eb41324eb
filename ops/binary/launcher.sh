#!/bin/sh
# Horologe @VERSION@, commit @COMMIT@, for Linux on @MACHINE@ with glibc @GLIBC@ or newer. It is licensed under Apache-2.0.
#
# This file is a program and everything that it needs, Python included, packed behind these lines. Its first start unpacks it, once
# for each user and each version: into $HOROLOGE_UNPACK_DIR, or for root /var/cache/horologe, for others ~/.cache/horologe, or below
# /tmp where there is nothing of that. Needed: sh, tar, gzip, and tail and mv and the like of coreutils.
set -eu
build=@BUILD@

complain() {
    echo "horologe: $1" >&2
    exit 1
}

# A folder of somebody else is never used: who could write into it could be us. `/` is root's, so who owns it is root.
usable() {
    ( umask 077; mkdir -p "$1" ) 2> /dev/null && [ -O "$1" ] && [ -w "$1" ]
}

unpack() {
    scratch=$(mktemp -d "$cache/unpacking.XXXXXXXX") || complain "$cache cannot be written"
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 1' HUP INT TERM
    tail -c +@OFFSET@ "$0" | tar -xzf - -C "$scratch" || complain "this program cannot be unpacked into $cache: is it whole, is there room?"
    # Another start may have been faster.
    mv -T "$scratch" "$cache/$build" 2> /dev/null || [ -x "$cache/$build/horologe" ] || complain "$cache/$build is in the way"
    rm -rf "$scratch"
    trap - EXIT HUP INT TERM
}

if [ -n "${HOROLOGE_UNPACK_DIR:-}" ]; then
    cache=$HOROLOGE_UNPACK_DIR
elif [ -O / ]; then
    cache=/var/cache/horologe
else
    cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/horologe
fi
if ! usable "$cache"; then
    [ -z "${HOROLOGE_UNPACK_DIR:-}" ] || complain "HOROLOGE_UNPACK_DIR is $cache, which is not ours alone, or cannot be written"
    cache=${TMPDIR:-/tmp}/horologe-$(id -u)
    usable "$cache" || complain "there is nowhere to unpack this program; set HOROLOGE_UNPACK_DIR to a folder of your own"
fi
[ -x "$cache/$build/horologe" ] || unpack
HOROLOGE_LAUNCHER=$0 exec "$cache/$build/horologe" "$@"
