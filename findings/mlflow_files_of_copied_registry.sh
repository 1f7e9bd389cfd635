#!/usr/bin/env bash
# mlflow 3.17.2: in one process, a copy of a registry writes into its original.
#
# A client remembers where a run's files are by the run's identity alone, for the whole process, and
# not by the address of the tracking server or database. Whoever copies a database with its files (a
# backup, a trial of a migration, a test) and opens both in one process logs the copy's files to the
# place that the first one opened names, although the copy's own database names another.
#
# Seen: a file that is logged through the copy, whose database says "copy/...", appears in the
# original, and none in the copy. A new process writes it where its database says.
# Fails if the copy gets its own file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlflow==3.17.2
cd "$folder"
cat >log.py <<'PYTHON'
import shutil
import sqlite3
import sys
from pathlib import Path

from mlflow import MlflowClient

root = Path(sys.argv[1])


def client(name: str) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root}/{name}/mlflow.db")


(root / "original").mkdir()
original = client("original")
experiment = original.create_experiment("one", artifact_location=(root / "original/files").as_uri())
run = original.create_run(experiment).info.run_id
original.log_text(run, "first", "first.txt")

shutil.copytree(root / "original", root / "copy")
with sqlite3.connect(root / "copy/mlflow.db") as database:
    database.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, 'original', 'copy')")
copy = client("copy")
assert "/copy/" in copy.get_run(run).info.artifact_uri
copy.log_text(run, "second", "second.txt")
places = sorted(path.relative_to(root).parts[0] for path in root.rglob("second.txt"))
print("second.txt was logged through the copy, and lies in:", *places)
sys.exit(places != ["original"])
PYTHON
MLFLOW_DISABLE_TELEMETRY=true venv/bin/python log.py "$folder" 2>/dev/null || {
	echo "CHANGED: the copy got its own file" >&2
	exit 1
}
