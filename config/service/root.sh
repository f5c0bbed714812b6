#!/bin/sh
# Written by `millrace install-service`. Root's `millrace` has the settings of the service, and runs as its user.
MILLRACE_CONFIG=${MILLRACE_CONFIG:-/etc/millrace/millrace.toml}
export MILLRACE_CONFIG
case "${1:-}" in
  # These change the system, or read and write files of root.
  install-service | backup | restore) exec @PROGRAM@ "$@" ;;
esac
if [ "$(id -u)" != 0 ]; then
  exec @PROGRAM@ "$@"
fi
# `setpriv` keeps root's home, which the user cannot read. The driver of PostgreSQL searches it for certificates.
HOME=@DATA@
export HOME
exec setpriv --reuid=@USER@ --regid=@USER@ --init-groups @PROGRAM@ "$@"
