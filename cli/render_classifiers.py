"""Classifiers as tables: how often each class is recognised, and what it is mistaken for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .console import safe
from .render import make_table, pairs, size

if TYPE_CHECKING:
    from shiftreg.api.evaluation.classifier_values import (
        ClassifierResult,
        ClassifierTest,
        ImagenetClassifier,
    )
    from shiftreg.api.values import Estimate

    Confusion = Mapping[str, Mapping[str, int]]

MOST_COLUMNS = 12  # answers that fit beside a class in a terminal of 80 columns


def trained(result: ClassifierResult) -> RenderableType:
    """A classifier that was trained, and how well it does on what it did not learn from."""
    held_out = result.accuracy.count
    rows = {
        "written": result.path,
        "network": f"{result.network}, {size(result.path)}",
        "digest": result.digest,
        "images": f"{result.images} in {len(result.labels)} classes, {result.source}; "
        f"{held_out} held out",
        "accuracy": f"{share(result.accuracy)} on the {held_out} held out",
    }
    return Group(accuracies(result.per_class, result.confusion), pairs(rows))


def tested(result: ClassifierTest) -> RenderableType:
    """How well a classifier does on a folder of images."""
    rows = {
        "classifier": result.classifier,
        "digest": result.digest,
        "images": f"{result.images} in {len(result.counts)} classes, {result.folder}",
        "accuracy": share(result.accuracy),
    }
    return Group(accuracies(result.per_class, result.confusion), pairs(rows))


def imagenet(result: ImagenetClassifier) -> RenderableType:
    """A classifier of ImageNet's objects that was written."""
    rows = {
        "written": result.path,
        "network": f"resnet50, {size(result.path)}",
        "digest": result.digest,
        "labels": f"{len(result.labels)} ({', '.join(result.labels[:3])}, ...)",
    }
    return pairs(rows)


def accuracies(per_class: Mapping[str, Estimate], confusion: Confusion) -> RenderableType:
    """A row a class; and which class is taken for which, while a terminal has room for it."""
    table = make_table("Class", "Images", "Recognised", "Interval", "Mostly mistaken for")
    for name, estimate in per_class.items():
        table.add_row(
            safe(name),
            str(estimate.count),
            f"{estimate.value:.1%}",
            f"{estimate.low:.0%} to {estimate.high:.0%}",
            safe(_mistake(name, confusion[name])),
        )
    if len(_answers(confusion)) > MOST_COLUMNS:
        return table
    return Group(table, matrix(confusion))


def matrix(confusion: Confusion) -> RenderableType:
    """Classes by answers: how many images of each class were taken for what."""
    table = Table(title="Taken for", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("Class", overflow="fold")
    answers = _answers(confusion)
    for position in range(1, len(answers) + 1):
        table.add_column(str(position), justify="right")
    for name, row in confusion.items():
        table.add_row(safe(name), *(str(row[a]) if a in row else "." for a in answers))
    legend = ", ".join(f"{position} {safe(name)}" for position, name in enumerate(answers, 1))
    return Group(table, Text(f"Answers: {legend}", style="dim"))


def share(estimate: Estimate) -> str:
    """A share of images with its interval: "98.3% (95% interval 95% to 100%)"."""
    return f"{estimate.value:.1%} (95% interval {estimate.low:.0%} to {estimate.high:.0%})"


def _answers(confusion: Confusion) -> list[str]:
    """The classes, then whatever else was answered."""
    return list(dict.fromkeys([*confusion, *(a for row in confusion.values() for a in row)]))


def _mistake(name: str, row: Mapping[str, int]) -> str:
    wrong = {answer: count for answer, count in row.items() if answer != name}
    if not wrong:
        return ""
    answer = max(wrong, key=lambda it: wrong[it])
    return f"{answer} ({wrong[answer]})"
