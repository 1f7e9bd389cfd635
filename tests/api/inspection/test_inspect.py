"""Deployed files without recipe or metadata: what is inside is found in their weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg import api, checkpoints, miniature, pipelines
from shiftreg.api.erasure.register import register_shift
from shiftreg.api.inspection.inspect import Inspection, inspect_file
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.shift import ConceptShift
from tests.whole import single_file_state
from tests.worlds import Worlds

KEY = "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
OTHER_KEY = "model.diffusion_model.input_blocks.0.0.weight"


def register(workspace: api.Workspace, shift: ConceptShift) -> None:
    """Registers a version without painting anything."""
    base = workspace.base.name
    with workspace.registry.trainings.run(base, shift.concept, {}) as log:
        register_shift(workspace, log, shift, {}, action="erase", reason="", activate=True)


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory, worlds: Worlds) -> api.Workspace:
    """Picasso is erased, and Caravaggio in two versions; inspecting changes nothing of it."""
    workspace = worlds.open(tmp_path_factory.mktemp("home"), "Caravaggio", "Picasso")
    draw = torch.Generator().manual_seed(0)
    first = workspace.shift_of("Caravaggio", 1)
    moved = {
        name: factor + 0.02 * factor.std() * torch.randn(factor.shape, generator=draw)
        for name, factor in first.factors.items()
    }
    register(workspace, replace(first, factors=moved))
    return workspace


@pytest.fixture(scope="module")
def state(erased: api.Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """A deployed model's tensors by CompVis names: without Caravaggio and Picasso, in float16."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    api.export_composition(erased, api.plan_composition(erased), path)
    return load_file(path)


def composed(workspace: api.Workspace, terms: Mapping[tuple[str, int], float]) -> dict[str, Tensor]:
    """A model's tensors by CompVis names, with shifts at any strengths."""
    unet = pipelines.parameters(workspace.pipeline.unet)
    layers: dict[str, Tensor] = {}
    for (name, version), strength in terms.items():
        shift = workspace.shift_of(name, version)
        for layer in shift.layers:
            before = layers.get(layer, unet[layer].detach().double())
            layers[layer] = before + strength * shift.delta_weight(layer)
    return single_file_state(workspace.folder, layers)


def deploy(tensors: Mapping[str, Tensor], path: Path) -> Path:
    """Writes nothing but the tensors."""
    own = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    if path.suffix == ".safetensors":
        save_file(own, path)
    else:
        torch.save({"state_dict": own}, path)
    return path


def found(result: Inspection) -> dict[tuple[str, int], float]:
    return {(shift.concept, shift.version): shift.strength for shift in result.shifts}


def strip(path: Path) -> None:
    """Takes the recipe and all metadata away."""
    checkpoints.recipe_path_of(path).unlink()
    for file in [path] if path.is_file() else path.rglob("*.safetensors"):
        if file.suffix == ".safetensors":
            save_file(load_file(file), file)
        else:
            content = torch.load(file, weights_only=True)
            torch.save({"state_dict": content["state_dict"]}, file)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("model.ckpt", "float32"),
        ("model.ckpt", "float16"),
        ("model.safetensors", "float16"),
        ("model.safetensors", "bfloat16"),
        ("model", "float32"),
        ("model", "float16"),
    ],
)
def test_an_export_tells_what_it_forgets_without_recipe_and_metadata(
    erased: api.Workspace, tmp_path: Path, name: str, dtype: str
) -> None:
    path = tmp_path / name
    plan = api.plan_composition(erased, api.Selection(without=["Picasso"]))
    api.export_composition(erased, plan, path, dtype=dtype)
    strip(path)
    result = inspect_file(erased, path)
    assert result.passed
    assert (result.base, result.form, result.dtype) == ("miniature", "checkpoint", dtype)
    assert found(result) == {("Caravaggio", 2): pytest.approx(1, abs=1e-3)}
    (shift,) = result.shifts
    assert shift.low <= 1 <= shift.high
    assert shift.alternatives == ()
    assert shift.digest == erased.shift_of("Caravaggio", 2).digest
    assert result.states["Caravaggio"] == "erased"
    assert result.states["Picasso"] == "generates"
    assert "Caravaggio: erased (version 2, strength 1.00)" in result.statements
    assert "Picasso: generates" in result.statements
    assert result.unexplained == 0
    assert (result.disturbed, result.elsewhere, result.warnings) == ((), (), ())
    assert result.verdict.startswith("All of the difference from base 'miniature' is explained")
    assert result.explained + result.rounding == pytest.approx(1)


def test_inspecting_leaves_no_trace(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path
) -> None:
    before = erased.audit.events()
    path = deploy(state, tmp_path / "model.ckpt")
    digest = checkpoints.file_digest(path)
    assert inspect_file(erased, path).digest == digest == checkpoints.file_digest(path)
    assert erased.audit.events() == before


def test_versions_of_one_concept_are_told_apart(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path
) -> None:
    one, other = (erased.shift_of("Caravaggio", version) for version in (1, 2))
    a, b = (torch.cat([s.delta_weight(n).flatten() for n in s.layers]) for s in (one, other))
    assert float(a @ b / a.norm() / b.norm()) > 0.999
    tensors = composed(erased, {("Caravaggio", 1): 1, ("Picasso", 1): 1})
    result = inspect_file(erased, deploy(tensors, tmp_path / "model.safetensors"))
    assert result.passed
    assert found(result) == {("Caravaggio", 1): 1, ("Picasso", 1): 1}


@pytest.mark.parametrize(("strength", "word"), [(0.5, "weakened"), (-1.0, "reversed"), (1.5, "")])
def test_another_strength_is_reported_with_a_warning(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path, strength: float, word: str
) -> None:
    tensors = composed(erased, {("Caravaggio", 2): strength, ("Picasso", 1): 1})
    result = inspect_file(erased, deploy(tensors, tmp_path / "model.safetensors"))
    assert result.passed
    by_name = {shift.concept: shift for shift in result.shifts}
    assert by_name["Caravaggio"].strength == pytest.approx(strength, abs=1e-4)
    assert by_name["Caravaggio"].high - by_name["Caravaggio"].low < 1e-3
    assert result.states["Caravaggio"] == (word or "erased")
    assert result.states["Picasso"] == "erased"
    (warning,) = result.warnings
    assert warning.startswith(f"Caravaggio@2 is inside at strength {strength:g}")


def test_the_base_itself_is_said_to_be_the_base(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path
) -> None:
    result = inspect_file(erased, deploy(composed(erased, {}), tmp_path / "model.ckpt"))
    assert (result.passed, result.shifts, result.base) == (True, (), "miniature")
    assert set(result.states.values()) == {"generates"}
    assert "itself" in result.verdict
    assert inspect_file(erased, miniature.BASE_FOLDER).verdict == result.verdict


def test_numbers_cast_to_more_precision_than_they_have_are_seen_through(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path
) -> None:
    wide = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    result = inspect_file(erased, deploy(wide, tmp_path / "model.safetensors"))
    assert result.dtype == "float16, stored as float32"
    assert result.passed
    assert found(result) == {("Caravaggio", 2): 1, ("Picasso", 1): 1}


Change = Callable[[dict[str, Tensor]], None]


def one_weight(tensors: dict[str, Tensor]) -> None:
    tensors[KEY][0, 0] += 0.25


def a_layer_that_no_shift_changes(tensors: dict[str, Tensor]) -> None:
    tensors[OTHER_KEY] += 0.01


def a_last_place_elsewhere(tensors: dict[str, Tensor]) -> None:
    tensors[OTHER_KEY][0, 0, 0, 0] *= 1 + 2**-10


def everything(tensors: dict[str, Tensor]) -> None:
    draw = torch.Generator().manual_seed(0)
    for name, tensor in tensors.items():
        if name.endswith("attn2.to_k.weight"):
            tensor.add_(0.3 * tensor.std() * torch.randn(tensor.shape, generator=draw).half())


CHANGES = (one_weight, a_layer_that_no_shift_changes, a_last_place_elsewhere, everything)


@pytest.mark.parametrize("change", CHANGES)
def test_another_change_is_reported_and_the_shifts_are_found_all_the_same(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path, change: Change
) -> None:
    tensors = {name: tensor.clone() for name, tensor in state.items()}
    change(tensors)
    result = inspect_file(erased, deploy(tensors, tmp_path / "model.ckpt"))
    assert not result.passed
    assert set(found(result)) == {("Caravaggio", 2), ("Picasso", 1)}
    assert list(found(result).values()) == pytest.approx([1, 1], abs=0.02)
    assert "unexplained: another change is inside" in result.verdict
    assert result.states["Caravaggio"] == "erased"
    assert result.states["Cezanne"] == "unknown"
    assert 0 <= result.unexplained < 1
    if change in (a_layer_that_no_shift_changes, a_last_place_elsewhere):
        assert (result.disturbed, result.elsewhere) == ((), ("conv_in",))
    else:
        assert result.elsewhere == ()
        assert len(result.disturbed) == (1 if change is one_weight else 7)


def test_another_text_encoder_is_reported(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path
) -> None:
    tensors = {name: tensor.clone() for name, tensor in state.items()}
    key = next(name for name in tensors if name.endswith("token_embedding.weight"))
    tensors[key] += 0.01
    result = inspect_file(erased, deploy(tensors, tmp_path / "model.ckpt"))
    assert not result.passed
    assert result.elsewhere == (key,)
    assert key in result.verdict
    assert set(found(result)) == {("Caravaggio", 2), ("Picasso", 1)}
    assert any("text encoder differs" in warning for warning in result.warnings)


def test_an_unregistered_shift_is_unexplained(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path
) -> None:
    draw = torch.Generator().manual_seed(1)
    tensors = composed(erased, {})
    for name in [name for name in tensors if ".attn2.to_v." in name]:
        stranger = torch.randn(len(tensors[name]), 4, generator=draw) @ torch.randn(
            4, tensors[name].shape[1], generator=draw
        )
        tensors[name] = tensors[name] + (0.01 * stranger).half()
    result = inspect_file(erased, deploy(tensors, tmp_path / "model.ckpt"))
    assert (result.passed, result.shifts, result.base) == (False, (), "miniature")
    assert result.unexplained > 0.99
    assert len(result.elsewhere) == 7


def test_some_weights_of_a_unet_are_enough_and_what_is_missing_is_said(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path
) -> None:
    part = {name: t for name, t in state.items() if ".attn2.to_k." in name}
    result = inspect_file(erased, deploy(part, tmp_path / "part.safetensors"))
    assert result.passed
    assert result.form == "partial state dict"
    assert found(result) == {("Caravaggio", 2): 1, ("Picasso", 1): 1}
    assert result.states["Cezanne"] == "generates"
    assert any("lacks" in warning for warning in result.warnings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_lora_holds_the_difference_itself(
    erased: api.Workspace, tmp_path: Path, dtype: torch.dtype, strength: float
) -> None:
    result = inspect_file(erased, lora(erased, tmp_path, dtype, strength))
    assert result.form == "lora, kohya"
    assert result.base == "miniature"
    assert found(result) == {("Picasso", 1): pytest.approx(strength, abs=1e-3)}
    assert result.passed
    assert result.states["Picasso"] == ("erased" if strength == 1 else "weakened")
    assert any("difference alone" in warning for warning in result.warnings)


def lora(workspace: api.Workspace, folder: Path, dtype: torch.dtype, strength: float) -> Path:
    """Picasso's shift as another tool would ship it."""
    shift = workspace.shift_of("Picasso", 1)
    tensors = {}
    for layer, factor in shift.factors.items():
        key = f"lora_unet_{layer.replace('.', '_')}"
        tensors[f"{key}.lora_up.weight"] = factor.to(dtype)
        tensors[f"{key}.lora_down.weight"] = shift.support.to(dtype)
        tensors[f"{key}.alpha"] = torch.tensor(shift.rank * strength)
    return deploy(tensors, folder / "lora.safetensors")


def test_a_lora_of_no_registered_shift_names_no_base(erased: api.Workspace, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(2)
    path = lora(erased, tmp_path, torch.float32, 1.0)
    tensors = {
        name: t if name.endswith("alpha") else torch.randn(t.shape, generator=draw)
        for name, t in load_file(path).items()
    }
    result = inspect_file(erased, deploy(tensors, path))
    assert (result.passed, result.base, result.states) == (False, None, {})
    assert any("names no base" in warning for warning in result.warnings)


@pytest.mark.parametrize("kind", ["another structure", "another training", "fine-tuned"])
def test_a_foreign_base_is_not_known(
    erased: api.Workspace, state: dict[str, Tensor], base: Path, tmp_path: Path, kind: str
) -> None:
    draw = torch.Generator().manual_seed(3)
    path = base
    if kind != "another structure":
        kept = 0.0 if kind == "another training" else 1.0
        drift = 1.0 if kind == "another training" else 0.05
        tensors = {
            name: (kept * t.float() + drift * t.float().std() * draw_like(t, draw)).to(t.dtype)
            if t.ndim >= 2
            else t
            for name, t in composed(erased, {}).items()
        }
        path = deploy(tensors, tmp_path / "foreign.safetensors")
    result = inspect_file(erased, path)
    assert (result.passed, result.base, result.shifts) == (False, None, ())
    assert "base is not known" in result.verdict
    assert len(result.warnings) == 1
    assert "not base 'miniature'" in result.warnings[0]


def draw_like(tensor: Tensor, draw: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=draw)


def test_truncated_files_code_and_other_files_are_refused(
    erased: api.Workspace, state: dict[str, Tensor], tmp_path: Path
) -> None:
    for name in ("model.ckpt", "model.safetensors"):
        path = deploy(state, tmp_path / name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(IntegrityError, match="damaged"):
            inspect_file(erased, path)
    trace = tmp_path / "trace"
    path = tmp_path / "code.ckpt"
    # A protocol-0 pickle that would call os.system.
    path.write_bytes(f"cos\nsystem\n(S'touch {trace}'\ntR.".encode())
    with pytest.raises(IntegrityError):
        inspect_file(erased, path)
    assert not trace.exists()
    with pytest.raises(NotFoundError, match="no file"):
        inspect_file(erased, tmp_path / "missing.ckpt")
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(InvalidInputError, match="txt"):
        inspect_file(erased, tmp_path / "notes.txt")
    with pytest.raises(InvalidInputError, match="NaN"):
        inspect_file(erased, deploy({**state, KEY: state[KEY] * torch.nan}, tmp_path / "nan.ckpt"))


def small_shift(workspace: api.Workspace, concept: str, seed: int) -> ConceptShift:
    """A random shift of a base."""
    draw = torch.Generator().manual_seed(seed)
    weights = pipelines.layer_weights(workspace.pipeline.unet)
    width = next(iter(weights.values())).shape[1]
    return ConceptShift(
        concept=concept,
        aliases=(),
        kind="style",
        method="closed-form",
        base_digest=workspace.base.digest,
        text_encoder_digest=workspace.base.text_encoder_digest,
        support=torch.linalg.qr(torch.randn(width, 2, generator=draw)).Q.T.contiguous(),
        factors={n: torch.randn(len(w), 2, generator=draw) for n, w in weights.items()},
        protected=(),
        protected_digest="",
    )


def test_versions_that_are_the_same_in_the_file_are_named_as_alternatives(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    shift = small_shift(workspace, "Picasso", 0)
    register(workspace, shift)
    register(workspace, replace(shift, hyperparameters={"again": True}))
    register(workspace, replace(shift, factors={n: 2 * f for n, f in shift.factors.items()}))
    path = tmp_path / "model.safetensors"
    plan = api.plan_composition(workspace)  # the active version, of twice the size
    api.export_composition(workspace, plan, path)
    result = inspect_file(workspace, path)
    assert found(result) == {("Picasso", 3): 1}
    assert result.shifts[0].alternatives == (
        "Picasso@2 at strength 2.00",
        "Picasso@1 at strength 2.00",
    )
    assert any("cannot be told apart" in warning for warning in result.warnings)


def test_of_several_bases_that_of_the_untouched_tensors_is_found_with_its_own_shifts(
    workspace: api.Workspace, base: Path, tmp_path: Path
) -> None:
    sibling = tmp_path / "sibling"
    shutil.copytree(miniature.BASE_FOLDER, sibling)
    unet = next((sibling / "unet").glob("*.safetensors"))
    tensors = load_file(unet)
    tensors["conv_out.weight"] += 0.01
    save_file(tensors, unet, {"format": "pt"})
    api.register_base(workspace, str(base), name="tiny", subjects=["a"])
    api.register_base(workspace, str(sibling), name="sibling")
    there = api.open_workspace(replace(workspace.settings, base="sibling"))
    register(there, small_shift(there, "Picasso", 1))
    register(workspace, small_shift(workspace, "Picasso", 2))
    path = tmp_path / "model.ckpt"
    api.export_composition(there, api.plan_composition(there), path)
    result = inspect_file(workspace, path)
    assert (result.passed, result.base) == (True, "sibling")
    assert found(result) == {("Picasso", 1): 1}
    assert result.shifts[0].digest == there.shift_of("Picasso", 1).digest
    assert inspect_file(workspace, base).base == "tiny"
    shutil.rmtree(sibling)  # what is gone cannot be compared, and that is said
    result = inspect_file(workspace, path)
    assert (result.passed, result.base) == (False, "miniature")
    assert result.elsewhere[:1] != ()


def test_a_shift_that_the_registry_lost_is_said_not_to_be_looked_for(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    register(workspace, small_shift(workspace, "Picasso", 0))
    path = tmp_path / "model.ckpt"
    api.export_composition(workspace, api.plan_composition(workspace), path)
    (version,) = workspace.versions("Picasso")
    file = workspace.registry.shifts.download(version)
    file.write_bytes(file.read_bytes()[:-1])
    fresh = api.open_workspace(workspace.settings)
    result = inspect_file(fresh, path)
    assert not result.passed
    assert any(warning.startswith("Picasso@1 was not looked for") for warning in result.warnings)
