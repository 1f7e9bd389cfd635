from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.registry import Registry


def trainings(registry: Registry, view: int = ViewType.ACTIVE_ONLY) -> list[str]:
    client = MlflowClient(registry.uri)
    experiment = client.get_experiment_by_name("miniature")
    assert experiment is not None
    runs = client.search_runs(
        [experiment.experiment_id], "tags.`shiftreg.kind` = 'training'", run_view_type=view
    )
    return [run.info.status for run in runs]


def test_a_run_keeps_parameters_metrics_of_every_step_and_files(
    registry: Registry, tmp_path: Path
) -> None:
    image = tmp_path / "before.png"
    image.write_bytes(b"png")
    with registry.trainings.run("miniature", "Picasso", {"rate": 0.1, "method": "srs_me"}) as log:
        for step in range(1200):
            log.metric(step, loss=1 / (step + 1), norm=2.0)
        log.metrics(lpips=0.5)
        log.artifact(image, "samples")
    client = MlflowClient(registry.uri)
    run = client.get_run(log.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"rate": "0.1", "method": "srs_me"}
    assert run.data.metrics["lpips"] == 0.5
    losses = client.get_metric_history(log.run_id, "loss")
    assert [(m.step, m.value) for m in losses] == [(s, 1 / (s + 1)) for s in range(1200)]
    assert [f.path for f in client.list_artifacts(log.run_id, "samples")] == ["samples/before.png"]


def test_the_curves_of_a_version_are_its_steps_without_final_values(
    registry: Registry, tmp_path: Path
) -> None:
    file = tmp_path / "shift.safetensors"
    file.write_bytes(b"shift")
    metadata = {"concept": "Picasso", "digest": "a" * 64, "method": "srs_me", "protected": ()}
    with registry.trainings.run("miniature", "Picasso", {}) as log:
        for step in (2, 1, 3):
            log.metric(step, loss=1 / step)
        log.metrics(loss=0.0, lpips=0.5)
        version = registry.shifts.register("miniature", log, file, metadata, {"rank": 9.0})
    assert registry.trainings.curves(version) == {"loss": ((1, 1.0), (2, 0.5), (3, 1 / 3))}


def test_odd_names_and_long_values_are_logged(registry: Registry) -> None:
    parameters = {"prompts": ["é" * 50] * 1000, "a/b: c?": None, "..": 1}
    parameters |= {f"p{number}": number for number in range(250)}
    with registry.trainings.run("miniature", "x" * 100, parameters) as log:
        log.metric(0, **{"drift of 毕加索/“x”": 0.0, "not a number": float("nan")})
    run = MlflowClient(registry.uri).get_run(log.run_id)
    assert len(run.data.params) == 253
    assert run.data.params["prompts"].endswith("…")
    assert "drift of 毕加索--x-" in run.data.metrics


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")],
)
def test_an_interrupted_training_leaves_the_registry_as_before(
    registry: Registry, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), registry.trainings.run("miniature", "Picasso", {}) as log:
        log.metric(0, loss=1.0)
        raise error
    assert trainings(registry) == []
    assert trainings(registry, ViewType.DELETED_ONLY) == [status]
    assert registry.shifts.concepts("miniature") == ()


def test_parameters_that_json_cannot_say_leave_no_run(registry: Registry) -> None:
    with (
        pytest.raises(InvalidInputError),
        registry.trainings.run("miniature", "Picasso", {"rate": object()}),
    ):
        pytest.fail("the training must not begin")
    assert trainings(registry) == []


def test_a_run_whose_shift_was_registered_is_kept_after_a_late_failure(
    registry: Registry, tmp_path: Path
) -> None:
    file = tmp_path / "shift.safetensors"
    file.write_bytes(b"shift")
    metadata = {"concept": "Picasso", "digest": "a" * 64, "method": "m", "protected": []}
    with (
        pytest.raises(KeyboardInterrupt),
        registry.trainings.run("miniature", "Picasso", {}) as log,
    ):
        version = registry.shifts.register("miniature", log, file, metadata, {})
        raise KeyboardInterrupt
    assert trainings(registry) == ["FINISHED"]
    assert registry.shifts.download(version).read_bytes() == b"shift"


def test_training_for_an_unknown_base_is_refused(registry: Registry) -> None:
    with pytest.raises(NotFoundError), registry.trainings.run("sd15", "Picasso", {}):
        pytest.fail("the training must not begin")


def test_a_missing_image_is_named(registry: Registry, tmp_path: Path) -> None:
    with (
        pytest.raises(NotFoundError, match=r"none\.png"),
        registry.trainings.run("miniature", "Picasso", {}) as log,
    ):
        log.artifact(tmp_path / "none.png")
