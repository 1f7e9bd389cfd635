#!/bin/sh
# Writes MLflow's settings of users, and starts it. The password has letters and digits only: it is
# part of an address.
set -eu
database="postgresql+psycopg2://mlflow:$POSTGRES_PASSWORD@${POSTGRES_HOST:-postgres}"
umask 077
cat >authentication.ini <<END
[mlflow]
default_permission = EDIT
database_uri = $database/users
admin_username = admin
auth_cache_ttl_seconds = 60
END
export MLFLOW_AUTH_CONFIG_PATH="$PWD/authentication.ini"
# Nobody submits jobs to this server: their idle processes would take 1.8 GB.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
exec mlflow server --app-name basic-auth --host "${HOST:-0.0.0.0}" --port "${PORT:-5000}" --workers "${WORKERS:-4}" \
	--backend-store-uri "$database/mlflow" \
	--serve-artifacts --artifacts-destination "${ARTIFACTS:-/artifacts}"
