#!/bin/sh
# Back up Phoenix's database and repositories, while it works: backup.sh FOLDER
#
# DATABASE_URL or DATABASE_URL_FILE names the database, else libpq's own variables do; PHOENIX_HOME the data folder.
# KEEP is how many backups stay (7). The new one appears under its time, whole or not at all.
set -eu
umask 077

fail() {
    echo "backup: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "name the folder for backups: backup.sh FOLDER"
folder=$1
keep=${KEEP:-7}
[ "$keep" -ge 1 ] 2>/dev/null || fail "KEEP is '$keep', not how many backups stay."
[ -d "${PHOENIX_HOME:?backup: set PHOENIX_HOME}" ] || fail "PHOENIX_HOME, $PHOENIX_HOME, is no folder."
[ -z "${DATABASE_URL_FILE:-}" ] || DATABASE_URL=$(cat "$DATABASE_URL_FILE")
url=$(printf %s "${DATABASE_URL:-}" | sed 's/^postgres\(ql\)\{0,1\}+[a-z0-9]*:/postgresql:/')

name=$(date -u +%Y%m%dT%H%M%SZ)
mkdir -p "$folder"
[ ! -e "$folder/$name" ] || fail "$folder/$name is there already."
partial=$(mktemp -d "$folder/.partial-XXXXXX")
trap 'rm -rf "$partial"' EXIT
trap 'exit 1' HUP INT TERM

# The database comes first: what it names then is in the repositories, which only grow, when they are read after it.
# Row-level security hides nothing from a session that has entered no organisation, and pg_dump refuses to guess that.
pg_dump ${url:+--dbname="$url"} --format=custom --enable-row-security --no-owner --no-privileges \
    --file="$partial/database.dump" || fail "pg_dump failed."

# Worktrees are made again from commits. Status 1 of tar: something changed or went while it was read.
mkdir -p "$partial/none/projects"
root=$PHOENIX_HOME
[ -d "$root/projects" ] || root="$partial/none"
touch "$partial/begun"
archive="$partial/projects.tar"
tar --create --file="$archive" --directory="$root" --exclude='projects/*/worktrees' --exclude='*.lock' \
    --warning=no-file-changed --warning=no-file-removed projects || [ $? -eq 1 ] || fail "tar failed."

# git may have packed objects meanwhile: those it took away before they were read are in packs newer than that.
(cd "$root" && find projects -path '*/objects/*' -type f -newer "$partial/begun") > "$partial/newer"
tar --append --file="$archive" --directory="$root" --ignore-failed-read --warning=no-failed-read \
    --files-from="$partial/newer" || [ $? -eq 1 ] || fail "tar failed."
gzip -1 "$archive"
rm -rf "$partial/none" "$partial/begun" "$partial/newer"

# What cannot be read back is no backup.
pg_restore --list "$partial/database.dump" > /dev/null || fail "the dump cannot be read back."
tar --list --gzip --file="$archive.gz" > /dev/null || fail "the archive cannot be read back."
(cd "$partial" && sha256sum database.dump projects.tar.gz > SHA256SUMS)
sync
mv "$partial" "$folder/$name"
trap - EXIT
echo "$folder/$name"

find "$folder" -mindepth 1 -maxdepth 1 -type d -name '????????T??????Z' | sort -r | tail -n "+$((keep + 1))" |
    while IFS= read -r old; do rm -rf "$old"; done
