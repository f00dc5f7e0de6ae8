#!/bin/sh
# Restore a backup into an empty database and an empty data folder, with no Phoenix running: restore.sh BACKUP
#
# DATABASE_URL or DATABASE_URL_FILE names the database, else libpq's own variables do; PHOENIX_HOME the data folder.
# Afterwards start Phoenix, or run `phoenix migrate`: it brings schema, roles and privileges up to date.
set -eu
umask 077

fail() {
    echo "restore: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "name the backup: restore.sh BACKUP"
backup=$1
[ -f "$backup/SHA256SUMS" ] || fail "$backup is no backup: it has no SHA256SUMS."
(cd "$backup" && sha256sum --check --quiet SHA256SUMS) || fail "$backup is damaged."
home=${PHOENIX_HOME:?restore: set PHOENIX_HOME}
[ -z "${DATABASE_URL_FILE:-}" ] || DATABASE_URL=$(cat "$DATABASE_URL_FILE")
url=$(printf %s "${DATABASE_URL:-}" | sed 's/^postgres\(ql\)\{0,1\}+[a-z0-9]*:/postgresql:/')

if [ -d "$home/projects" ] && [ -n "$(ls -A "$home/projects")" ]; then
    fail "$home/projects is not empty: move it away first."
fi
tables=$(psql ${url:+--dbname="$url"} --no-psqlrc --tuples-only --no-align --quiet \
    --command="SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()") || fail "the database does not answer."
[ "$tables" -eq 0 ] || fail "the database has $tables tables: give an empty one."

# The database comes last and in one transaction: before it is there, nothing of this can be taken for a whole Phoenix.
mkdir -p "$home"
tar --extract --gzip --file="$backup/projects.tar.gz" --directory="$home" --no-same-owner ||
    fail "the archive could not be read."
if command -v git > /dev/null; then
    for repository in "$home"/projects/*/*.git; do
        [ -d "$repository" ] || continue
        git --git-dir="$repository" -c safe.directory='*' fsck --connectivity-only --no-dangling --no-progress ||
            fail "$repository is damaged."
    done
else
    echo "restore: git is not installed, so the repositories were not checked." >&2
fi
pg_restore --dbname="${url:-${PGDATABASE:?restore: set DATABASE_URL}}" --exit-on-error --single-transaction \
    --no-owner --no-privileges "$backup/database.dump" || fail "pg_restore failed; the database is as it was."
echo "restored $backup"
