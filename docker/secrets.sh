#!/bin/sh
# Write the secrets that docker-compose.yml mounts into a folder, ./secrets by default. Existing ones stay.
set -eu
folder="${1:-secrets}"
umask 077
mkdir -p "$folder"

written() {
    [ -e "$folder/$1" ] || printf %s "$2" > "$folder/$1"
}
random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

written postgres_password "$(random)"
written reader_password "$(random)"
written redis_password "$(random)"
written grafana_password "$(random)"
written database_url "postgresql://phoenix:$(cat "$folder/postgres_password")@postgres:5432/phoenix"
written redis_url "redis://:$(cat "$folder/redis_password")@redis:6379/0"
written openai_api_key "${OPENAI_API_KEY:-}"
# Compose mounts each file as it is, and the containers run as other users than this one.
chmod 0700 "$folder"
chmod 0444 "$folder"/*
echo "The secrets are in $folder. Keep that folder out of version control, and readable by nobody else."
