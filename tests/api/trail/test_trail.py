"""The timeline, the check of the chain, and where shifts are, on the miniature."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from shiftreg import api
from shiftreg.audit import Cause
from shiftreg.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from shiftreg.settings import Settings
from tests.worlds import Worlds

FORMULA = '=HYPERLINK("http://example.org")'


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, worlds: Worlds) -> api.Workspace:
    """Two erasures, a release with both, one that spares the first, and its restoration."""
    home = tmp_path_factory.mktemp("trail") / "home"
    worlds.empty(home)
    workspace = api.open_workspace(Settings(home, "miniature", None), request="C-17")
    api.register_base(workspace, steps=1)
    api.erase(workspace, ["Caravaggio", "Picasso"], reason=FORMULA)
    plan = api.plan_composition(workspace)
    api.export_composition(workspace, plan, home.parent / "both.safetensors")
    workspace.audit = workspace.audit.because(Cause(licence="L-3"))
    plan = api.plan_composition(workspace, api.Selection(without=["Caravaggio"]))
    api.export_composition(workspace, plan, home.parent / "spared.safetensors")
    api.restore(workspace, ["Caravaggio"], reason="licensed")
    return workspace


def actions(workspace: api.Workspace, **conditions: str) -> list[str]:
    return [event.action for event in api.list_events(workspace, **conditions)]


def test_events_are_told_by_concept_action_actor_and_time(released: api.Workspace) -> None:
    everything = ["init", "erase", "erase", "export", "export", "restore"]
    assert actions(released) == everything
    assert actions(released, concept="caravaggio") == ["erase", "export", "export", "restore"]
    assert actions(released, action="Erase") == ["erase", "erase"]
    assert actions(released, actor=released.audit.events()[0].actor.upper()) == everything
    assert actions(released, actor="nobody") == []
    today = datetime.now(UTC).date()
    yesterday = str(today - timedelta(days=1))
    assert actions(released, since=yesterday) == everything
    assert actions(released, until=yesterday) == []
    assert actions(released, since=str(today + timedelta(days=1))) == []
    moment = released.audit.events()[-1].time
    assert actions(released, since=moment) == ["restore"]
    assert actions(released, until=moment, since=moment.replace("+00:00", "")) == ["restore"]


def test_events_of_an_export_are_found_by_file_path_and_digest(released: api.Workspace) -> None:
    file = released.settings.home.parent / "both.safetensors"
    digest = released.audit.events()[3].digests["export"]
    assert actions(released, export=str(file)) == ["export"]
    assert actions(released, export=digest[:8]) == ["export"]
    moved = file.rename(file.with_name("moved.safetensors"))
    try:
        assert actions(released, export=str(file)) == ["export"]
        assert actions(released, export=str(moved)) == ["export"]
    finally:
        moved.rename(file)


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ({"concept": "Caravagio"}, NotFoundError),
        ({"since": "yesterday"}, InvalidInputError),
        ({"until": "2026-13-01"}, InvalidInputError),
        ({"export": "nowhere.ckpt"}, NotFoundError),
        ({"export": "abc"}, NotFoundError),
    ],
)
def test_conditions_that_mean_nothing_are_refused(
    released: api.Workspace, conditions: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        api.list_events(released, **conditions)


def test_a_spreadsheet_runs_nothing_of_a_reason(released: api.Workspace) -> None:
    rows = list(csv.DictReader(io.StringIO(api.events_csv(api.list_events(released)))))
    assert len(rows) == 6
    assert rows[1]["reason"] == f"'{FORMULA}"
    assert rows[1]["request"] == "C-17"
    assert rows[3]["concepts"] == "Caravaggio; Picasso"


def test_a_checkpoint_proves_the_trail_that_grew_and_no_other(
    released: api.Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "head.json"
    made = api.write_checkpoint(released, file)
    assert json.loads(file.read_text())["head"] == made.head
    assert api.verify_trail(released, checkpoint=file, head=made.head).valid
    with pytest.raises(AlreadyExistsError):
        api.write_checkpoint(released, file)
    values = json.loads(file.read_text()) | {"head": "0" * 64}
    file.write_text(json.dumps(values))
    assert not api.verify_trail(released, checkpoint=file).valid
    with pytest.raises(NotFoundError):
        api.verify_trail(released, checkpoint=tmp_path / "none")
    with pytest.raises(InvalidInputError, match="64 hexadecimal digits"):
        api.verify_trail(released, head=made.head[:12])
    with pytest.raises(InvalidInputError, match="--key"):
        api.verify_trail(released, all_signed=True)


def test_where_a_shift_is_and_where_not_is_said_in_words(released: api.Workspace) -> None:
    found = api.exports_of(released, "caravaggio")
    assert (found.concept, found.now) == ("Caravaggio", "generates")
    both, spared = found.exports
    assert (both.state, both.statement) == ("erased", "erased in both.safetensors (version 1)")
    assert (both.shift_version, both.file, both.in_trail) == (1, "unchanged", True)
    assert (spared.state, spared.shift_version) == ("generates", None)
    assert spared.statement == "generates in spared.safetensors (its shift was left out)"
    assert [export.state for export in api.exports_of(released, "Picasso").exports] == [
        "erased"
    ] * 2
    before = [export.statement for export in api.exports_of(released, "Van Gogh").exports]
    assert before[0] == "generates in both.safetensors (its shift was left out)"
    with pytest.raises(NotFoundError, match="Picasso"):
        api.exports_of(released, "Picaso")


def test_a_file_that_changed_or_went_is_noticed(released: api.Workspace) -> None:
    folder = released.settings.home.parent
    files = [folder / "both.safetensors", folder / "spared.safetensors"]
    contents = [file.read_bytes() for file in files]
    try:
        files[0].write_bytes(contents[0] + b" ")
        files[1].unlink()
        exports = api.exports_of(released, "Picasso").exports
        assert [export.file for export in exports][:2] == ["changed", "missing"]
        exports = api.exports_of(released, "Picasso", look=False).exports
        assert {export.file for export in exports} == {"not looked at"}
    finally:
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)


def test_an_adapter_is_found_like_any_export(released: api.Workspace) -> None:
    target = released.settings.home.parent / "picasso.safetensors"
    api.export_adapter(
        released, api.plan_adapter(released, target, api.Selection(only=["Picasso"]))
    )
    export = api.exports_of(released, "Picasso").exports[-1]
    assert export.statement == "erased by the adapter picasso.safetensors at strength 1 (version 1)"
    assert export.file == "unchanged"
    assert api.exports_of(released, "Van Gogh").exports[-1].state == "not in it"


def test_an_export_that_only_the_trail_knows_is_found(released: api.Workspace) -> None:
    before = len(released.audit.events())
    released.audit.append(
        "export",
        base="miniature",
        concepts=["Caravaggio"],
        digests={"export": "ab" * 32},
        details={"path": "/elsewhere/gone.safetensors", "form": "adapter, kohya"},
    )
    path = released.audit.store.path  # type: ignore[attr-defined]
    try:
        export = api.exports_of(released, "Caravaggio").exports[-1]
        assert (export.version, export.file, export.form) == (None, "missing", "adapter, kohya")
        assert export.statement == (
            "erased by the adapter gone.safetensors at strength 1; it is no longer in the registry"
        )
        (other,) = [p for p in api.exports_of(released, "Picasso").exports if p.version is None]
        assert (other.state, other.statement.split(";")[0]) == (
            "not in it",
            "not in the adapter gone.safetensors",
        )
    finally:
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:before]))


def test_evidence_gathers_request_erasure_releases_and_restoration(
    released: api.Workspace, tmp_path: Path
) -> None:
    page = tmp_path / "caravaggio.html"
    events = api.list_events(released, concept="Caravaggio")
    exports = api.exports_of(released, "Caravaggio").exports
    made = api.write_evidence(released, "Caravaggio", page)
    html = page.read_text(encoding="utf-8")
    assert len(exports) >= 2
    assert (made.events, made.releases, made.problems) == (len(events), len(exports), ())
    for text in ("C-17", "L-3", "licensed", "both.safetensors", "spared.safetensors", made.head):
        assert text in html
    assert "data:image/png;base64," not in html  # nobody asked for samples
    assert "HYPERLINK" in html
    assert "unbroken" in html
    assert "No verification of a model without it is on record" in html
    assert "complian" not in html.lower()
    event = released.audit.events()[-1]
    assert (event.action, event.digests["page"], event.digests["head"]) == (
        "evidence",
        made.digest,
        made.head,
    )
    assert api.verify_trail(released, head=made.head).valid
    with pytest.raises(AlreadyExistsError):
        api.write_evidence(released, "Caravaggio", page)


@pytest.mark.erased("Caravaggio")
def test_evidence_shows_samples_if_they_are_those_that_the_trail_knows(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    image = "data:image/png;base64,"
    api.generate_samples(workspace, "Caravaggio", seeds=[0])
    api.write_evidence(workspace, "Caravaggio", tmp_path / "own.html", look=False)
    assert (tmp_path / "own.html").read_text(encoding="utf-8").count(image) == 1
    (version,) = workspace.versions("Caravaggio")
    kept = workspace.registry.shifts.download_samples(version)
    assert kept is not None
    Image.new("RGB", (64, 64), "red").save(kept)
    api.write_evidence(workspace, "Caravaggio", tmp_path / "forged.html", look=False)
    assert image not in (tmp_path / "forged.html").read_text(encoding="utf-8")


def test_evidence_from_a_damaged_trail_says_so_and_vouches_for_nothing(
    released: api.Workspace, tmp_path: Path
) -> None:
    path = released.audit.store.path  # type: ignore[attr-defined]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"licensed", b"approved"))
    try:
        made = api.write_evidence(released, "Caravaggio", tmp_path / "page.html")
        assert made.head == ""
        assert "edited" in made.problems[0]
        assert "The record is DAMAGED" in (tmp_path / "page.html").read_text(encoding="utf-8")
    finally:
        path.write_bytes(content)


def test_verifications_on_record_are_on_the_page(released: api.Workspace, tmp_path: Path) -> None:
    api.verify(released, selection=api.Selection(only=["Caravaggio"]), images=1)
    api.write_evidence(released, "Caravaggio", tmp_path / "page.html", look=False)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No verification of a model without it" not in html
    assert "No verification of a model that generates it" in html
    assert html.count("<summary>Checks about") == 1
