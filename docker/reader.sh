#!/bin/sh
# Make the database's role that Grafana reads with, or give it the password of its secret again.
# PostgreSQL's image executes this when its volume is new; on an old one: docker compose exec postgres
# /docker-entrypoint-initdb.d/reader.sh. What the role may read is granted by `phoenix migrate`.
set -e
export READER_PASSWORD_FILE="${READER_PASSWORD_FILE:-/run/secrets/reader_password}"
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat "$READER_PASSWORD_FILE"`
SELECT 'CREATE ROLE phoenix_reader' WHERE NOT EXISTS (
    SELECT FROM pg_roles WHERE rolname = 'phoenix_reader'
) \gexec
ALTER ROLE phoenix_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 10
    PASSWORD :'password';
ALTER ROLE phoenix_reader SET default_transaction_read_only = on;
ALTER ROLE phoenix_reader SET statement_timeout = '30s';
SQL
