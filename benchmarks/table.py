"""Measures shiftreg beside what one would otherwise do, and keeps the table in docs/.

    python benchmarks/table.py --folder /tmp/full-size                     # everything
    python benchmarks/table.py --folder /tmp/full-size --rows switching starting
    python benchmarks/table.py --family toy --out /tmp/try                 # seconds

Random bases of Stable Diffusion 1.4's size are written to the folder first (6.4 GB; up to 20 GB are
needed on the way, and everything but the bases is deleted). Ours and theirs take turns in the same
run. Rows that were measured before stay in the table until they are measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from rows.measure import Line, Setting, machine

ROWS = (
    "null_space",
    "srs_me_step",
    "closed_form",
    "exporting",
    "shift_size",
    "switching",
    "starting",
    "commands",
    "growth",
)
DOCS = Path(__file__).parents[1] / "docs"
VERDICTS = {True: "yes", False: "**no**", None: ""}


def shown(values: list[float], unit: str) -> str:
    """Median and spread, in units that one can read."""
    if not values:
        return ""
    scale = 1.0
    if unit == "s" and median(values) < 1:
        scale, unit = (1e3, "ms") if median(values) > 1e-3 else (1e6, "µs")
    numbers = [value * scale for value in values]
    text = f"{_number(median(numbers))} {unit}".strip()
    if len(numbers) == 1:
        return text
    return f"{text} ({_number(min(numbers))} to {_number(max(numbers))})"


def _number(value: float) -> str:
    if 0 < value < 1e-3:
        return f"{value:.1e}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(lines: list[dict[str, Any]]) -> str:
    """The comparisons as Markdown."""
    text = "| what | shiftreg | peer | | ratio | bar | holds |\n"
    text += "| --- | --- | --- | --- | --- | --- | --- |\n"
    for line in lines:
        ratio = line["ratio"]
        if ratio is None:
            said = ""
        elif ratio < 0.2:
            said = f"1 / {_number(1 / ratio)}"
        else:
            said = f"{ratio:.2f}"
        cells = (
            line["what"],
            shown(line["ours"], line["unit"]),
            line["peer"],
            shown(line["theirs"], line["unit"]),
            said,
            line["bar"],
            VERDICTS[line["holds"]],
        )
        text += f"| {' | '.join(cells)} |\n"
    return text


def plain(line: Line) -> dict[str, Any]:
    """A comparison as JSON values."""
    return asdict(line) | {"ours": [*line.ours], "theirs": [*line.theirs], "ratio": line.ratio}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--folder", type=Path, help="for bases and scratch files")
    parser.add_argument("--family", choices=("sd14", "toy"), default="sd14")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--patient", action="store_true", help="wait for quiet before each turn")
    parser.add_argument("--out", type=Path, default=DOCS, help="where the results are kept")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(exist_ok=True)
        repeats = 1 if given.family == "toy" else given.repeats
        setting = Setting(folder.resolve(), given.family, repeats, given.patient)
        if given.child:
            row, *arguments = given.child
            print(json.dumps(import_module(f"rows.{row}").in_child(setting, *arguments)))
            return
        measure(setting, given.rows, given.out)


def measure(setting: Setting, rows: list[str], out: Path) -> None:
    """Measures rows, and keeps them among those that were measured before."""
    out.mkdir(exist_ok=True)
    kept = out / "benchmarks.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    results |= {"machine": machine(), "family": setting.family}
    results.setdefault("rows", {})
    for row in rows:
        module = import_module(f"rows.{row}")
        if row == "growth":
            results["growth"] = module.grow(setting)
            module.plot(results["growth"], out / "benchmarks-growth.png")
        else:
            results["rows"][row] = [plain(line) for line in module.measure(setting)]
            print(table(results["rows"][row]), flush=True)
        kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    ordered = [line for row in ROWS for line in results["rows"].get(row, ())]
    (out / "benchmarks-table.md").write_text(table(ordered), encoding="utf-8")


if __name__ == "__main__":
    main()
