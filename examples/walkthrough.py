"""Erase, compose, restore and evaluate from Python, with plots; everything runs on the miniature.

    python examples/walkthrough.py --out walkthrough

writes samples.png, separability.png, paraphrases.png, scene.png and model.safetensors into the
folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from shiftreg import api
from shiftreg.api.values import Evaluation, Verification
from shiftreg.evaluation.scenes import Scene, SceneStep
from shiftreg.settings import Settings


def plot_separability(verification: Verification, path: Path) -> None:
    """How far each shift moves each prompt that is not its own, on a logarithmic scale."""
    shifts = list(verification.separability)
    prompts = list(dict.fromkeys(p for row in verification.separability.values() for p in row))
    table = [
        [max(verification.separability[shift].get(prompt, 1e-12), 1e-12) for shift in shifts]
        for prompt in prompts
    ]
    figure = Figure(figsize=(2 + len(shifts), 1 + 0.35 * len(prompts)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(table, norm="log", vmin=1e-12, vmax=1, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(shifts)), shifts, rotation=30, ha="right")
    axes.set_yticks(range(len(prompts)), [prompt or "(empty)" for prompt in prompts])
    axes.set_title("Change of keys and values, by each shift")
    figure.colorbar(image)
    figure.savefig(path, dpi=110)


def plot_paraphrases(evaluation: Evaluation, concept: str, path: Path) -> None:
    """How often a concept is found, by its name and by everything else that people may type."""
    step = evaluation.steps[0]
    name = next(score for score in step.scores if score.concept == concept)
    rows = [("name", name.base_accuracy, name.accuracy)] + [
        (score.form, score.base, score.after)
        for score in step.paraphrases
        if score.concept == concept and score.form != "neighbours"
    ]
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for offset, label, column in ((-0.2, "base", 1), (0.2, "erased", 2)):
        estimates = [row[column] for row in rows]
        axes.bar(
            [x + offset for x in range(len(rows))],
            [e.value for e in estimates],
            width=0.4,
            yerr=[
                [e.value - e.low for e in estimates],
                [e.high - e.value for e in estimates],
            ],
            capsize=3,
            label=label,
        )
    axes.set_xticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylabel(f"images that show {concept}")
    axes.set_ylim(0, 1.05)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("walkthrough"))
    parser.add_argument("--images", type=int, default=8, help="images a cell")
    parser.add_argument("--steps", type=int, help="denoising steps; the miniature's by default")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    # A workspace is a registry with a base; the miniature comes with the package.
    workspace = api.open_workspace(Settings(out / "registry", "miniature", None))
    api.register_base(workspace, steps=arguments.steps)

    # Two requests arrive. Each becomes a version in the registry.
    for result in api.erase(workspace, ["Caravaggio", "Picasso"], reason="request 17"):
        change, drift = result.metrics["relative_change"], result.metrics["max_drift"]
        print(f"{result.statement}: change {change:.2f}, drift {drift:.0e}")

    # What a model with both shifts does, in words, in numbers and in images.
    plan = api.plan_composition(workspace)
    print("\n".join(plan.statements))
    verification = api.verify(workspace, images=2)
    print(
        "verified" if verification.passed else "NOT verified", f"{len(verification.checks)} checks"
    )
    plot_separability(verification, out / "separability.png")
    prompts = [
        "Caravaggio",
        "a painting of a church by Picasso",
        "Van Gogh",
        "a picture of a church",
    ]
    api.generate_grid(workspace, prompts, out / "samples.png", seeds=[0, 1, 2], overwrite=True)

    # Is it gone, and what did it cost?
    evaluation = api.evaluate(workspace, images=arguments.images)
    plot_paraphrases(evaluation, "Caravaggio", out / "paraphrases.png")
    for goal in evaluation.goals:
        print(f"{goal.name}: {goal.value:.4f} (at most {goal.limit:g})")

    # A licence comes back: Picasso generates again, exactly as before; Caravaggio stays erased.
    api.restore(workspace, ["Picasso"], reason="licence 3")
    released = api.export_composition(
        workspace, api.plan_composition(workspace), out / "model.safetensors", overwrite=True
    )
    print(f"released {released.path.name}, digest {released.digest[:12]}")

    # The same story as a scene, played in a registry of its own.
    scene = Scene(
        "Licence returned",
        ("Caravaggio", "Picasso", "Van Gogh"),
        (
            SceneStep(erase=("Caravaggio", "Picasso"), label="requests"),
            SceneStep(restore=("Picasso",), label="licence"),
        ),
    )
    played = api.evaluate(workspace, scene, images=arguments.images, paraphrases="none")
    image = played.image
    assert image is not None
    (out / "scene.png").write_bytes(image.read_bytes())
    print("all goals met" if played.passed else "goals missed")


if __name__ == "__main__":
    main()
