"""Runs in MLflow, and the processes that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shiftreg.processes import is_gone, this_process
from shiftreg.registry.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

PROCESS = "shiftreg.process"


def start_run(store: Store, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
    """Begins a run, and notes whose it is."""
    owned = {**tags, PROCESS: this_process()}
    return store.client.create_run(experiment_id, run_name=name[:250], tags=owned)


def is_left(run: Run) -> bool:
    """Whether its process ran on this machine and is gone."""
    return is_gone(run.data.tags.get(PROCESS, ""))
