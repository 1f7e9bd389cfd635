from __future__ import annotations

from dataclasses import replace

from shiftreg.evaluation.intervals import Estimate
from shiftreg.evaluation.results import ConceptScore, ParaphraseScore, StepResult, check_goals
from shiftreg.evaluation.scenes import GOALS


def estimate(value: float) -> Estimate:
    return Estimate(value, value, value, 4)


def score(
    concept: str, role: str, *, frechet: float = 0, found: float = 1, lpips: float = 0
) -> ConceptScore:
    return ConceptScore(
        concept, role, frechet, estimate(found), estimate(1), estimate(lpips), estimate(0)
    )  # type: ignore[arg-type]


def paraphrase(concept: str, role: str, form: str, found: float) -> ParaphraseScore:
    return ParaphraseScore(concept, role, form, ("a",), estimate(1), estimate(found), estimate(0))  # type: ignore[arg-type]


STEP = StepResult(
    number=1,
    label="t0",
    action="erase A",
    digest="d",
    states={},
    scores=(score("A", "forgotten", found=0), score("B", "recovered"), score("C", "regular")),
    paraphrases=(paraphrase("A", "forgotten", "held-out prompts", 0),),
    ordinary=estimate(0),
    ordinary_frechet=0,
    watermark={"mark": estimate(1)},
    base_watermark={"mark": estimate(1)},
)


def failed(step: StepResult) -> dict[str, str]:
    return {
        check.name: check.subject for check in check_goals([STEP, step], GOALS) if not check.passed
    }


def test_every_goal_is_checked_where_it_has_a_cell() -> None:
    assert [check.name for check in check_goals([STEP], GOALS)] == list(GOALS)
    alone = replace(STEP, scores=STEP.scores[:1], paraphrases=(), watermark={})
    assert {c.name for c in check_goals([alone], GOALS)} == {"forgotten accuracy", "ordinary LPIPS"}


def test_the_worst_cell_of_all_steps_decides_and_is_named() -> None:
    later = replace(STEP, label="t1")
    assert failed(later) == {}
    cells = {
        "forgotten accuracy": score("A", "forgotten", found=0.1),
        "recovered LPIPS": score("B", "recovered", lpips=0.1),
        "recovered Fréchet distance": score("B", "recovered", frechet=1),
        "regular accuracy lost": score("C", "regular", found=0.5),
        "regular LPIPS": score("C", "regular", lpips=0.1),
    }
    for goal, cell in cells.items():
        assert failed(replace(later, scores=(cell,))) == {goal: f"{cell.concept}, t1"}


def test_a_goal_has_the_interval_of_its_worst_cell() -> None:
    found = replace(score("A", "forgotten"), accuracy=Estimate(0.5, 0.25, 0.75, 8))
    checks = check_goals([replace(STEP, scores=(found,))], GOALS)
    intervals = {check.name: check.interval for check in checks}
    assert intervals["forgotten accuracy"] == (0.25, 0.75)
    assert intervals["watermark lost"] is None  # a difference of two rates
    assert intervals["ordinary LPIPS"] is None  # of equal values, which say nothing about others


def test_lost_watermarks_and_disturbed_prompts_are_missed_goals() -> None:
    assert failed(replace(STEP, label="t1", ordinary=estimate(0.2))) == {"ordinary LPIPS": "t1"}
    lost = replace(STEP, label="t1", watermark={"mark": estimate(0.5)})
    assert failed(lost) == {"watermark lost": "'mark', t1"}


def test_held_out_prompts_count_and_misspellings_are_only_reported() -> None:
    found = replace(
        STEP, label="t1", paraphrases=(paraphrase("A", "forgotten", "held-out prompts", 0.5),)
    )
    assert failed(found) == {"forgotten accuracy, held-out prompts": "A, t1"}
    slips = replace(
        STEP, label="t1", paraphrases=(paraphrase("A", "forgotten", "misspellings", 0.5),)
    )
    assert failed(slips) == {}
