"""A training's run in MLflow: parameters, the values of every step, images, and its end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftreg.canonical import canonical_json
from shiftreg.registry.bases import find_experiment
from shiftreg.registry.failures import translated_errors
from shiftreg.registry.records import ShiftVersion
from shiftreg.registry.runs import log_file, log_text, start_run
from shiftreg.registry.store import Section, Store, translates_errors

if TYPE_CHECKING:
    from mlflow.entities import Metric

PARAMETER_CHARACTERS = 6000
BATCH = 100
BUFFER = 500
FLUSH_SECONDS = 5.0


class TrainingLog:
    """What a training writes down while it runs.

    Attributes:
        is_registered: Whether a version was made from it, so that it must be kept.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self.is_registered = False
        self._store = store
        self._buffer: list[Metric] = []
        self._flushed = time.monotonic()

    def metric(self, step: int, **values: float) -> None:
        """Notes values of one step; they are sent in batches.

        Args:
            step: The iteration.
            **values: A name -> its value.

        Raises:
            StorageError: The registry refused a batch.
        """
        self._buffer += _rows(values, step)
        late = time.monotonic() - self._flushed > FLUSH_SECONDS
        if late or len(self._buffer) >= BUFFER:
            self.flush()

    def metrics(self, **finals: float) -> None:
        """Writes down values of the whole training.

        Raises:
            StorageError: The registry refused.
        """
        self._buffer += _rows(finals, 0)
        self.flush()

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keeps a copy of a file, such as an image.

        Raises:
            NotFoundError: There is no such file.
            StorageError: The registry refused.
        """
        with translated_errors(self._store.uri):
            log_file(self._store, self.run_id, path, str(Path(folder or "") / path.name))

    def flush(self) -> None:
        """Sends what is noted and not sent yet.

        Raises:
            StorageError: The registry refused; the values stay noted.
        """
        with translated_errors(self._store.uri):
            for start in range(0, len(self._buffer), BUFFER):
                batch = self._buffer[start : start + BUFFER]
                self._store.client.log_batch(self.run_id, metrics=batch)
        self._buffer.clear()
        self._flushed = time.monotonic()


class Trainings(Section):
    """The runs of trainings."""

    @contextmanager
    def run(self, base: str, concept: str, parameters: Mapping[str, Any]) -> Iterator[TrainingLog]:
        """A run for one training; it is finished at the end, and taken away after a failure.

        A run whose training fails or is interrupted is marked so and deleted, so that only finished
        ones are listed (MLflow can restore deleted runs). One that a version was registered from is
        kept: the version needs its files.

        Yields:
            The log to write to.

        Raises:
            NotFoundError: No base has this name.
            InvalidInputError: Parameters that JSON cannot say.
            StorageError: The registry refused.
        """
        store = self.store
        with translated_errors(store.uri):
            experiment = find_experiment(store, base)
            tags = {
                "shiftreg.kind": "training",
                "shiftreg.concept": concept,
                "mlflow.note.content": f"Training of the shift that erases `{concept}`.",
            }
            run = start_run(store, experiment.experiment_id, concept, tags)
        log = TrainingLog(store, run.info.run_id)
        try:
            with translated_errors(store.uri):
                log_parameters(store, log.run_id, parameters)
            yield log
            log.flush()
            with translated_errors(store.uri):
                store.client.set_terminated(log.run_id)
        except BaseException as error:
            # The first error is the one to raise; a store that fails now has failed already.
            with suppress(Exception):
                if log.is_registered:
                    log.flush()
                    store.client.set_terminated(log.run_id)
                else:
                    status = "FAILED" if isinstance(error, Exception) else "KILLED"
                    store.client.set_terminated(log.run_id, status)
                    store.client.delete_run(log.run_id)
            raise

    @translates_errors
    def curves(self, version: ShiftVersion) -> dict[str, tuple[tuple[int, float], ...]]:
        """The values of a version's training, step by step; none if it was not trained.

        Returns:
            A name -> ``(step, value)`` in order.
        """
        client, run_id = self.store.client, version.run_id
        names = sorted(client.get_run(run_id).data.metrics)
        histories = {name: client.get_metric_history(run_id, name) for name in names}
        # Values of the whole training stand at step 0; the steps themselves begin at 1.
        curves = {
            name: tuple(sorted((entry.step, entry.value) for entry in history if entry.step > 0))
            for name, history in histories.items()
        }
        return {name: curve for name, curve in curves.items() if curve}


def log_parameters(store: Store, run_id: str, parameters: Mapping[str, Any]) -> None:
    """Writes parameters down, in MLflow's table as far as they fit and whole in a file.

    Raises:
        InvalidInputError: Parameters that JSON cannot say.
    """
    from mlflow.entities import Param

    rows = []
    for name, value in parameters.items():
        text = value if isinstance(value, str) else canonical_json(value)
        if len(text) > PARAMETER_CHARACTERS:
            text = text[: PARAMETER_CHARACTERS - 1] + "…"
        rows.append(Param(entity_name(name), text))
    log_text(store, run_id, canonical_json(dict(parameters)), "parameters.json")
    for start in range(0, len(rows), BATCH):
        store.client.log_batch(run_id, params=rows[start : start + BATCH])


def log_metrics(store: Store, run_id: str, metrics: Mapping[str, float]) -> None:
    """Writes down values of a whole run."""
    if metrics:
        store.client.log_batch(run_id, metrics=_rows(metrics, step=0))


def entity_name(name: str) -> str:
    """A name that MLflow takes for a metric or parameter."""
    return re.sub(r"[^\w\-. ]", "-", name).strip(". ")[:250] or "-"


def _rows(values: Mapping[str, float], step: int) -> list[Metric]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(entity_name(name), float(value), now, step) for name, value in values.items()]
