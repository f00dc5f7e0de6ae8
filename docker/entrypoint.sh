#!/bin/sh
# Start the process that the first argument names: serve, worker, migrate, or any command of phoenix.
set -eu

# A setting that ends in _FILE names a file that holds its value, as secrets are mounted.
for name in $(env | sed -n 's/^\([A-Z][A-Z0-9_]*\)_FILE=.*/\1/p'); do
    case "$name" in
        PHOENIX_* | DATABASE_URL | REDIS_URL | OPENAI_API_KEY | OPENAI_BASE_URL) ;;
        *) continue ;;
    esac
    eval "file=\$${name}_FILE"
    if eval "[ -n \"\${$name:-}\" ]"; then
        echo "entrypoint: both $name and ${name}_FILE are set: give one of them." >&2
        exit 2
    fi
    if [ ! -r "$file" ]; then
        echo "entrypoint: ${name}_FILE names $file, which cannot be read." >&2
        exit 2
    fi
    value=$(cat "$file")
    export "$name=$value"
    unset "${name}_FILE"
done

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
