#!/bin/sh
# Start the process that the first argument names: serve, worker, migrate, or any command of phoenix.
# Settings, also those that end in _FILE, are read by phoenix itself.
set -eu

case "${1:-serve}" in
    serve)
        [ $# -eq 0 ] || shift
        exec phoenix up "$@"
        ;;
    sh | bash | /bin/sh | /bin/bash)
        exec "$@"
        ;;
    *)
        exec phoenix "$@"
        ;;
esac
