"""Running erasures on an engine, and registering each shift as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any

from shiftreg import checkpoints
from shiftreg.api.erasure.plan import PreparedErasure
from shiftreg.api.erasure.register import register_shift
from shiftreg.api.erasure.task import ErasureTask, Planned, ShiftResult, run_anywhere, run_task
from shiftreg.api.states import plan_refresh
from shiftreg.api.values import ErasurePlan, ErasureResult, Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.engines import Engine, InProcess
from shiftreg.erasers import Step
from shiftreg.errors import IncompleteError, ShiftregError
from shiftreg.registry.training import TrainingLog
from shiftreg.verification import Gates

HARDLY_CHANGED = 0.9
"""Left in keys and values: more than any method leaves that erases. See docs/measurements.md."""


def run_erasures(
    workspace: Workspace,
    tasks: Sequence[ErasureTask],
    reason: str,
    engine: Engine,
    observe: Observer,
    prepared: Sequence[PreparedErasure] = (),
    *,
    force: bool = False,
) -> list[ErasureResult]:
    """Erases, and registers each concept's shift: one that fails does not stop the others.

    Args:
        engine: Where the tasks run.
        prepared: The erasures of the only task, if they are ready to run.
        force: Make versions active also where most of their concept is left.

    Returns:
        The results, in the order of the tasks.

    Raises:
        IncompleteError: Some of several erasures failed; the others are registered.
        ShiftregError: The only one failed.
    """
    work = partial(run_task, workspace, prepared) if isinstance(engine, InProcess) else None
    with _Registrar(workspace, tasks, reason, observe, force=force) as registrar:
        try:
            engine.run(tasks, work or run_anywhere, registrar)
        except ShiftregError as error:  # of the registry, or of the engine itself
            registrar.give_up(error)
    if registrar.errors:
        _raise(tasks, registrar.results, registrar.errors)
    return [result for number in range(len(tasks)) for result in registrar.results[number]]


def _raise(
    tasks: Sequence[ErasureTask],
    results: dict[int, list[ErasureResult]],
    errors: dict[int, Exception],
) -> None:
    registered = [result for of_task in results.values() for result in of_task]
    if len(tasks) == 1 and not registered:
        raise errors[0]
    done = [result.statement for result in registered]
    reasons = "; ".join(f"{tasks[n].name}: {error}" for n, error in sorted(errors.items()))
    asked = [concept.name for n in sorted(errors) for concept in tasks[n].concepts]
    missing = [name for name in asked if name not in {r.plan.concept for r in registered}]
    again = " ".join(f'"{name}"' if " " in name else name for name in missing)
    raise IncompleteError(
        f"{len(missing)} of {len(missing) + len(done)} concepts are not erased. {reasons}. "
        f"Registered: {'; '.join(done) or 'nothing'}. Erase what is missing by the same options: "
        f"shiftreg erase {again}",
        missing=tuple(missing),
    ) from errors[min(errors)]


class _Registrar:
    """Hears of the tasks: writes trainings down while they run, registers what they find.

    Attributes:
        results: Task -> its results.
        errors: Task -> why it has none, or not all.
    """

    def __init__(
        self,
        workspace: Workspace,
        tasks: Sequence[ErasureTask],
        reason: str,
        observe: Observer,
        *,
        force: bool,
    ) -> None:
        self.results: dict[int, list[ErasureResult]] = {}
        self.errors: dict[int, Exception] = {}
        self._workspace, self._tasks, self._reason = workspace, tasks, reason
        self._observe, self._force = observe, force
        self._runs: dict[int, list[ExitStack]] = {}
        self._logs: dict[int, list[TrainingLog]] = {}

    def __enter__(self) -> _Registrar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in [*self._runs]:
            self._close(number, error or KeyboardInterrupt())

    def started(self, number: int) -> None:
        """A second start means that the first attempt came to nothing."""
        self._close(number, RuntimeError("its worker died"))
        self._tell_how_far()
        if len(self._tasks) > 1:
            self._show(number, Progress("preparing", 0, 1))

    def reported(self, number: int, report: Any) -> None:
        """Plans, steps and progress, as ``run_task`` reports them."""
        if isinstance(report, Planned):
            self._open(number, report.plans)
        elif isinstance(report, Step):
            for log in self._logs[number]:
                log.metric(report.number, **report.values)
            stage = f"training {self._tasks[number].name}"
            self._show(number, Progress(stage, report.number, report.limit, report.values))
        else:
            self._show(number, report)

    def finished(self, number: int, result: list[ShiftResult]) -> None:
        """Registers the shifts of a task."""
        self.results[number] = []
        try:
            for one, log, run in zip(result, self._logs[number], self._runs[number], strict=True):
                self.results[number].append(self._register(number, one, log))
                run.close()  # it stays, whatever becomes of those that were trained with it
        except ShiftregError as error:
            self.failed(number, error)
            return
        del self._runs[number]
        for one in result:
            checkpoints.Unfinished(one.unfinished).discard()
        self._tell_how_far()

    def failed(self, number: int, error: Exception) -> None:
        """Keeps the reason; the runs of the task are taken away."""
        self.errors[number] = error
        self._close(number, error)
        self._show(number, Progress("failed", 1, 1))
        self._tell_how_far()

    def give_up(self, error: Exception) -> None:
        """Whatever is not done by now is not done for this reason."""
        for number in range(len(self._tasks)):
            if number not in self.results and number not in self.errors:
                self.failed(number, error)

    def _open(self, number: int, plans: Sequence[ErasurePlan]) -> None:
        self._runs[number] = [ExitStack() for _ in plans]
        self._logs[number] = [
            run.enter_context(
                self._workspace.registry.trainings.run(
                    plan.base,
                    plan.concept,
                    {
                        **plan.hyperparameters,
                        "method": plan.method,
                        "seed": self._tasks[number].seed,
                        "kind": plan.kind,
                    },
                )
            )
            for plan, run in zip(plans, self._runs[number], strict=True)
        ]

    def _close(self, number: int, error: BaseException) -> None:
        for run in self._runs.pop(number, ()):
            run.__exit__(type(error), error, error.__traceback__)

    def _register(self, number: int, result: ShiftResult, log: TrainingLog) -> ErasureResult:
        """Keeps a shift as a version of its concept, with its measurements."""
        workspace, plan, shift = self._workspace, result.plan, result.shift
        predecessor = self._tasks[number].predecessor
        log.metrics(**result.metrics, **{f"capacity.{k}": v for k, v in plan.capacity.items()})
        left, most = result.metrics.get("left_in_noise"), Gates().remaining
        if left is None:
            left, most = result.metrics["left_in_layers"], HARDLY_CHANGED
        erased = self._force or left <= most
        version = register_shift(
            workspace,
            log,
            shift,
            result.metrics,
            action="refresh" if predecessor else "erase",
            predecessor=predecessor.digest if predecessor else None,
            reason=self._reason,
            activate=erased,
        )
        outcome = f"erased (version {version.version})"
        if not erased:
            outcome = (
                f"not erased: {left:.0%} of the concept is left, so version {version.version} is "
                "kept and not active. Try another method; or make it active all the same: --force"
            )
        return ErasureResult(
            plan=plan,
            version=version.version,
            digest=shift.digest,
            metrics=result.metrics,
            stale=tuple(
                name for name, towards in plan_refresh(workspace) if plan.concept in towards
            ),
            statement=f"{plan.concept}: {outcome}",
            erased=erased,
        )

    def _show(self, number: int, progress: Progress) -> None:
        lane = self._tasks[number].name if len(self._tasks) > 1 else ""
        self._observe(replace(progress, lane=lane))

    def _tell_how_far(self) -> None:
        if len(self._tasks) > 1:
            done = len({*self.results, *self.errors})
            self._observe(Progress("erasing concepts", done, len(self._tasks)))
