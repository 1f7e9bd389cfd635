#!/usr/bin/env bash
# mlflow 3.17.2: a tracking server that nobody submits a job to keeps one process a job type.
#
# `mlflow server --workers 1` on a database starts, beside its one worker, a job runner and a huey
# consumer for each type of job that MLflow knows (evaluations, scorers, ...) and one for periodic
# tasks. Each imports MLflow whole. They are idle, and hold most of the server's memory.
# MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false leaves them out; tracking, registry and artifacts work.
#
# Seen: 10 processes with jobs, 2 without; the script prints the memory of both.
# Fails if a server without jobs is no smaller, or if one with jobs starts fewer than 5 more.
set -euo pipefail
folder=$(mktemp -d)
server=
finish() { [ -z "$server" ] || kill -- "-$server" 2>/dev/null || true; sleep 1; rm -rf "$folder"; }
trap finish EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlflow==3.17.2
export MLFLOW_DISABLE_TELEMETRY=true PATH="$folder/venv/bin:$PATH"

measure() { # name, whether jobs run, port
	mkdir "$folder/$1"
	cd "$folder/$1"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=$2 setsid mlflow server --workers 1 --host 127.0.0.1 --port "$3" \
		--backend-store-uri "sqlite:///$folder/$1/mlflow.db" >"$folder/$1/log" 2>&1 &
	server=$!
	python3 - "$3" <<'PYTHON'
import sys, time, urllib.request
for _ in range(180):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health").read()
        break
    except OSError:
        time.sleep(1)
else:
    sys.exit("the server did not start")
PYTHON
	sleep 60 # the consumers are started late, and import for some seconds
	count=$(ps -o pid= -s "$server" | wc -l)
	memory=$(ps -o rss= -s "$server" | awk '{ sum += $1 } END { print int(sum / 1024) }')
	kill -- "-$server"
	wait "$server" 2>/dev/null || true
	server=
	echo "$1: $count processes, $memory MB"
}
measure with-jobs true 5711
with=$count with_memory=$memory
measure without-jobs false 5712
[ "$with" -ge $((count + 5)) ] && [ "$with_memory" -gt $((2 * memory)) ] || {
	echo "CHANGED: $with and $count processes, $with_memory and $memory MB" >&2
	exit 1
}
