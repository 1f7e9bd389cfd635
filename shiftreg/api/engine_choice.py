"""Choosing where work is done, so that it is quick and fits into the memory."""

from __future__ import annotations

import os
from typing import Literal

import torch

from shiftreg.api.workspace import Workspace
from shiftreg.engines import Engine, InProcess, ProcessPool, RayCluster
from shiftreg.errors import InvalidInputError

EngineName = Literal["auto", "local", "processes", "ray"]
# A worker holds the base in float32 and, while it trains, about as much again.
MEMORY_SHARE = 4


def choose_engine(
    workspace: Workspace,
    name: EngineName = "auto",
    *,
    workers: int | None = None,
    tasks: int | None = None,
    long: bool = False,
) -> Engine:
    """The engine for some tasks.

    Args:
        name: "local" (this process), "processes" (of this machine), "ray" (a cluster), or "auto":
            processes for several long tasks, or if a number of workers is given.
        workers: How many at once; by default as many as there are tasks, processors, and memory
            for. Of a cluster, as many as it has processors.
        tasks: How many there are, if it is known.
        long: Whether a task takes longer than loading the base once more.

    Raises:
        InvalidInputError: No such engine, or less than one worker.
        MissingExtraError: Ray is not installed.
    """
    if workers is not None and workers < 1:
        raise InvalidInputError(f"Work takes at least 1 worker, not {workers}.")
    # As many threads as here: how sums are split among threads decides their last bit.
    threads = torch.get_num_threads()
    if name == "ray":
        return RayCluster(workers, threads)
    if name not in ("auto", "local", "processes"):
        raise InvalidInputError(
            f"There is no engine '{name}'. Engines: auto, local, processes, ray."
        )
    if name == "local" or (name == "auto" and not (long or workers)):
        return InProcess()
    wanted = workers or _fitting(workspace)
    at_once = wanted if tasks is None else max(1, min(tasks, wanted))
    return ProcessPool(at_once, threads) if at_once > 1 or name == "processes" else InProcess()


def _fitting(workspace: Workspace) -> int:
    """So many workers as this machine has processors and free memory for."""
    processors = os.cpu_count() or 1
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that does not say
        return processors
    base = sum(file.stat().st_size for file in workspace.folder.rglob("*") if file.is_file())
    return min(processors, max(1, free // (MEMORY_SHARE * base)))
