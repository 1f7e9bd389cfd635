from __future__ import annotations

import json

from shiftreg.api.front_end import to_json
from shiftreg.checks import Check
from shiftreg.evaluation.intervals import Estimate


def test_an_estimate_is_compared_by_its_value_and_brings_its_interval() -> None:
    rate = Estimate(0.1, 0.0, 0.3, 10)
    most = Check.at_most("erasure", "Caravaggio", rate, 0.2, "Seldom.")
    least = Check.at_least("watermark", "mark", rate, 0.2, "Seldom.")
    assert (most.passed, most.value, most.interval) == (True, 0.1, (0.0, 0.3))
    assert (least.passed, least.interval) == (False, (0.0, 0.3))


def test_what_was_measured_once_has_no_interval() -> None:
    assert Check.at_most("noise", "a", 0.1, 0.2, "Small.").interval is None
    same = Check.at_most("ordinary", "a", Estimate(0.1, 0.1, 0.1, 1), 0.2, "Of one image.")
    assert same.interval is None


def test_it_comes_back_from_json_as_it_was() -> None:
    check = Check.at_most("erasure", "Caravaggio", Estimate(0.1, 0.0, 0.3, 10), 0.2, "Seldom.")
    stored = json.loads(json.dumps(to_json(check)))
    assert stored.pop("schema_version") == 1
    assert stored["interval"] == [0.0, 0.3]
    assert Check(**stored) == check
