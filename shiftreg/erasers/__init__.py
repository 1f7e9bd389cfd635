"""Erasers: one method a file, one protocol."""

from shiftreg.erasers.base import Eraser, Erasure, ErasureProblem, NoiseModel, Step, TrainingData
from shiftreg.erasers.closed_form import ClosedForm, predict_capacity
from shiftreg.erasers.srs_me import SrsMe

ERASERS: dict[str, type[ClosedForm] | type[SrsMe]] = {
    eraser.name: eraser for eraser in (ClosedForm, SrsMe)
}

__all__ = [
    "ERASERS",
    "ClosedForm",
    "Eraser",
    "Erasure",
    "ErasureProblem",
    "NoiseModel",
    "SrsMe",
    "Step",
    "TrainingData",
    "predict_capacity",
]
