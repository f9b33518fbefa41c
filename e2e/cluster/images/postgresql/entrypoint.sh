#!/bin/sh
# One PostgreSQL server for the local cluster. Runs as a user of any name with a read-only root filesystem.
#   PGDATA                     data folder, made on first start
#   /admin/{username,password} the administrator: may make databases and roles, is not a superuser
#   /tls/{tls.crt,tls.key}     the server's certificate; remote connections must use TLS and SCRAM
set -eu
export PATH="/usr/lib/postgresql/15/bin:$PATH"
export PGHOST=/tmp PGUSER=postgres PGDATABASE=postgres

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    rm -rf "$PGDATA.new"
    initdb --pgdata="$PGDATA.new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --data-checksums \
        --auth-local=peer --auth-host=scram-sha-256 >/dev/null
    cat >"$PGDATA.new/pg_ident.conf" <<CONF
inside $(id -un) postgres
CONF
    cat >"$PGDATA.new/pg_hba.conf" <<CONF
local   all postgres peer map=inside
hostssl all all all scram-sha-256
CONF
    mv "$PGDATA.new" "$PGDATA"
fi

# The administrator, as the Secret says now: also after its password was changed there.
pg_ctl --pgdata="$PGDATA" --wait --silent --options="-c listen_addresses= -k /tmp" start >/tmp/start.log 2>&1 || { cat /tmp/start.log >&2; exit 1; }
psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 <<'SQL'
\set admin `cat /admin/username`
\set password `cat /admin/password`
SET password_encryption = 'scram-sha-256';
SELECT format('CREATE ROLE %I', :'admin') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'admin') \gexec
ALTER ROLE :"admin" LOGIN CREATEDB CREATEROLE NOSUPERUSER NOREPLICATION NOBYPASSRLS PASSWORD :'password';
GRANT pg_signal_backend TO :"admin" WITH ADMIN OPTION;
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE postgres TO :"admin" WITH GRANT OPTION;
SQL
pg_ctl --pgdata="$PGDATA" --wait --silent --mode=fast stop

exec postgres -D "$PGDATA" -k /tmp -c listen_addresses='*' -c max_connections="${MAX_CONNECTIONS:-300}" \
    -c shared_buffers=64MB -c fsync=on -c jit=off -c password_encryption=scram-sha-256 -c log_min_messages=warning \
    -c ssl=on -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tls/tls.key -c ssl_min_protocol_version=TLSv1.2
