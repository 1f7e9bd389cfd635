"""The one place that knows MLflow: bases, versions of shifts, lineage, compositions.

Nothing here imports MLflow before a registry is opened.
"""

from shiftreg.registry.compositions import Compositions, Measurements
from shiftreg.registry.records import BaseRecord, CompositionVersion, ShiftVersion
from shiftreg.registry.registry import Registry, open_registry
from shiftreg.registry.shifts import Shifts
from shiftreg.registry.training import TrainingLog
