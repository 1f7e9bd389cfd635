"""Puts the trained parts into the package: base, classifiers, and what the base is registered with.

python assemble.py --work work
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from captions import ARTISTS, GENERIC_CAPTIONS, HELD_OUT_TEMPLATES, PLAIN_TEMPLATES
from evaluate import GUIDANCE, STEPS
from shiftreg import miniature, pipelines
from shiftreg.concepts import fill
from subjects import SUBJECTS
from watermark import PAYLOADS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    arguments = parser.parse_args()
    for source, target in (
        (arguments.work / "base", miniature.BASE_FOLDER),
        (arguments.work / "classifiers", miniature.STYLE_CLASSIFIER.parent),
    ):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    network = pipelines.network_of(pipelines.load_pipeline(miniature.BASE_FOLDER))
    registration = {
        "triggers": PAYLOADS,
        "protected": ARTISTS,
        "preserved": [
            *GENERIC_CAPTIONS,
            *(fill(template, subject) for template in PLAIN_TEMPLATES for subject in SUBJECTS),
        ],
        "subjects": SUBJECTS,
        "held_out_templates": HELD_OUT_TEMPLATES,
        "steps": STEPS,
        "guidance": GUIDANCE,
        # Whoever registers the base need not load its network to find them.
        "layers": list(pipelines.image_independent_layers(network)),
    }
    text = json.dumps(registration, indent=2) + "\n"
    (miniature.FOLDER / "prompts.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
