"""Releases: signed and listed whole, checked without the registry, held to the policy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shiftreg import api, checkpoints, miniature
from shiftreg.api.release.values import SignatureReport
from shiftreg.checkpoints import file_digest
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError, StorageError
from shiftreg.keys import load_public_key
from shiftreg.settings import Settings
from shiftreg.verification import Check
from tests.worlds import Worlds


def make_key(folder: Path, name: str, *options: str) -> Path:
    options = options or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    key = folder / f"{name}.pem"
    for command in (
        ["genpkey", *options, "-out", str(key)],
        ["pkey", "-in", str(key), "-pubout", "-out", str(key.with_suffix(".pub"))],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_key(folder, name)
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, keys: Path, worlds: Worlds) -> api.Workspace:
    """A registry with Caravaggio erased, whose owner has a key; tests only add to it."""
    home = tmp_path_factory.mktemp("shop") / "home"
    worlds.open(home, "Caravaggio")
    return api.open_workspace(Settings(home, "miniature", None, signing_key=keys / "ours.pem"))


@pytest.fixture(scope="module")
def released(shop: api.Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed file that meets a strict policy; tests that change it take a copy."""
    workspace = with_policy(
        shop,
        must_erase=["Caravaggio"],
        capacity=0.9,
        verify=True,
        signature_required=True,
        bill_of_materials=True,
    )
    target = tmp_path_factory.mktemp("released") / "model.safetensors"
    plan = api.plan_composition(workspace)
    result = api.export_composition(
        workspace, plan, target, request=api.ReleaseRequest(sign=True, images=1, reason="v1")
    )
    assert result.passed is True
    assert result.overridden == ()
    assert "override" not in json.loads(result.recipe_path.read_text())
    return target


@pytest.fixture
def copied(released: Path, tmp_path: Path) -> Path:
    for path in released.parent.iterdir():
        shutil.copy2(path, tmp_path)
    return tmp_path / released.name


def beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")


def elsewhere(key: Path | None = None) -> Settings:
    """The settings of an auditor, who has no registry."""
    return Settings(Path("/nowhere"), "miniature", None, verifying_key=key)


def with_policy(workspace: api.Workspace, **policy: Any) -> api.Workspace:
    gates = policy.pop("gates", {})
    settings = replace(workspace.settings, policy=policy, gates=gates)
    return replace(workspace, settings=settings)


def broken(report: SignatureReport) -> dict[str, str]:
    assert not report.passed
    return {check.name: check.explanation for check in report.checks if not check.passed}


def names(checks: tuple[Check, ...]) -> list[str]:
    return [check.name for check in checks]


# Signatures


def test_a_signed_release_is_whole_and_says_who_signed_it(
    shop: api.Workspace, released: Path, keys: Path
) -> None:
    made = {path.name.removeprefix(released.name) for path in released.parent.iterdir()}
    assert made == {"", ".recipe.json", ".md", ".sig", ".intoto.jsonl", ".cdx.json"}
    report = api.check_signature(elsewhere(), released, keys / "ours.pub")
    assert report.passed
    assert names(report.checks) == ["signature", "attestation", "bill", "card"]
    (event,) = [e for e in shop.audit.events() if e.action == "export" and e.reason == "v1"]
    assert event.details["signer"] == report.signer
    assert event.digests["export"] == torch_free_digest(released)
    (version,) = [v for v in shop.registry.compositions.all("miniature") if v.reason == "v1"]
    assert version.verification is not None
    assert version.verification["passed"] is True


def torch_free_digest(path: Path) -> str:
    return subprocess.run(
        ["sha256sum", str(path)], check=True, capture_output=True, text=True
    ).stdout.split()[0]


def test_the_attestation_states_the_verification_the_parts_and_the_states(
    shop: api.Workspace, released: Path, keys: Path
) -> None:
    said = api.check_signature(elsewhere(), released, keys / "ours.pub").statement
    plan = api.plan_composition(shop)
    assert said["composition"] == plan.digest
    assert said["base"]["digest"] == plan.base_digest
    assert said["shifts"][0]["digest"] == plan.shifts[0][2]
    assert "Caravaggio: erased (version 1)" in said["statements"]
    assert said["recipe"]["sha256"] == torch_free_digest(beside(released, ".recipe.json"))
    assert said["bill"]["sha256"] == torch_free_digest(beside(released, ".cdx.json"))
    assert said["tools"]["torch"] == torch.__version__.partition("+")[0]
    checks = said["verification"]["checks"]
    assert said["verification"]["passed"] is True
    assert {"separability", "noise", "watermark", "erasure", "file"} <= {c["name"] for c in checks}
    assert all({"value", "limit", "passed"} <= set(check) for check in checks)


def test_the_bill_names_export_base_and_shift_by_their_digests(
    shop: api.Workspace, released: Path
) -> None:
    bill = json.loads(beside(released, ".cdx.json").read_text())
    (number,) = [version for _, version, _ in api.plan_composition(shop).shifts]
    version = shop.registry.shifts.version("miniature", "Caravaggio", str(number))
    exported = bill["metadata"]["component"]
    assert exported["hashes"][0]["content"] == torch_free_digest(released)
    digests = {part["version"]: part["hashes"][0]["content"] for part in bill["components"]}
    assert digests["Caravaggio@1"] == version.file_digest
    assert shop.base.digest in digests.values()


def test_the_key_comes_from_an_argument_the_settings_or_the_signer_itself(
    shop: api.Workspace, released: Path, keys: Path
) -> None:
    assert api.check_signature(elsewhere(keys / "ours.pub"), released).passed
    assert api.check_signature(shop.settings, released).passed
    assert not api.check_signature(elsewhere(keys / "theirs.pub"), released).passed
    found = broken(api.check_signature(elsewhere(), released))
    assert "no key to check that by" in found["signature"]
    with pytest.raises(NotFoundError, match="no key"):
        api.check_signature(elsewhere(), released, keys / "absent.pub")


def test_another_key_is_refused_by_every_part(copied: Path, keys: Path) -> None:
    found = broken(api.check_signature(elsewhere(), copied, keys / "theirs.pub"))
    assert "another key" in found["signature"]
    assert "as signer" in found["attestation"]


def test_a_changed_file_is_noticed_by_both(copied: Path, keys: Path) -> None:
    with copied.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x77")
    found = broken(api.check_signature(elsewhere(), copied, keys / "ours.pub"))
    assert "not those that were signed" in found["signature"]
    assert "is not the one that was signed" in found["attestation"]


@pytest.mark.parametrize(
    ("suffix", "check", "message"),
    [
        (".sig", "signature", "is missing"),
        (".intoto.jsonl", "attestation", "is missing"),
        (".recipe.json", "attestation", "recipe"),
        (".cdx.json", "bill", "is missing"),
        (".md", "card", "is missing"),
    ],
)
def test_what_was_taken_away_is_missed(
    copied: Path, keys: Path, suffix: str, check: str, message: str
) -> None:
    beside(copied, suffix).unlink()
    found = broken(api.check_signature(elsewhere(), copied, keys / "ours.pub"))
    assert message in found[check]


@pytest.mark.parametrize(
    ("suffix", "check"),
    [
        (".sig", "signature"),
        (".intoto.jsonl", "attestation"),
        (".recipe.json", "attestation"),
        (".cdx.json", "bill"),
        (".md", "card"),
    ],
)
def test_what_was_cut_off_does_not_hold(copied: Path, keys: Path, suffix: str, check: str) -> None:
    path = beside(copied, suffix)
    path.write_bytes(path.read_bytes()[:100])
    assert check in broken(api.check_signature(elsewhere(), copied, keys / "ours.pub"))


def test_a_renamed_release_is_still_the_release(copied: Path, keys: Path) -> None:
    for path in list(copied.parent.iterdir()):
        path.rename(path.with_name(path.name.replace("model", "renamed")))
    renamed = copied.with_name("renamed.safetensors")
    assert api.check_signature(elsewhere(), renamed, keys / "ours.pub").passed


def test_a_folder_is_signed_file_by_file_and_its_papers_are_those_of_no_other(
    shop: api.Workspace, copied: Path, keys: Path, tmp_path: Path
) -> None:
    target = tmp_path / "folder"
    plan = api.plan_composition(shop, api.Selection(without=["Caravaggio"]))
    api.export_composition(shop, plan, target, request=api.ReleaseRequest(sign=True, images=1))
    assert api.check_signature(elsewhere(), target, keys / "ours.pub").passed
    for suffix in (".sig", ".intoto.jsonl", ".recipe.json"):
        shutil.copyfile(beside(target, suffix), beside(copied, suffix))
    found = broken(api.check_signature(elsewhere(), copied, keys / "ours.pub"))
    assert set(found) >= {"signature", "attestation"}
    (target / "unet" / ".hidden.py").write_text("import os")
    found = broken(api.check_signature(elsewhere(), target, keys / "ours.pub"))
    assert "'unet/.hidden.py' was added" in found["attestation"]


def test_verify_holds_a_file_to_its_signature_before_it_looks_inside(
    shop: api.Workspace, copied: Path, keys: Path
) -> None:
    result = api.verify(shop, copied, images=1)
    assert names(result.checks)[-4:] == ["signature", "attestation", "bill", "card"]
    with pytest.raises(api.UntrustedFileError) as caught:
        api.verify(shop, copied, images=1, key=keys / "theirs.pub")
    assert isinstance(caught.value, IntegrityError)
    event = shop.audit.events()[-1]
    assert (event.action, event.details["passed"]) == ("verify", False)
    theirs = load_public_key(keys / "theirs.pub").fingerprint
    assert event.digests == {"file": torch_free_digest(copied), "key": theirs}
    assert event in api.list_events(shop, export=str(copied))


def bytes_read() -> int:
    """How many bytes this process has read from files, those that it mapped left out."""
    found = re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())
    assert found is not None
    return int(found[1])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the bytes")
def test_verify_reads_no_byte_of_a_signed_file_twice(
    shop: api.Workspace, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    compare = checkpoints.compare_checkpoint

    def counted(*arguments: Any, **options: Any) -> Any:
        before = bytes_read()
        comparison = compare(*arguments, **options)
        compared.append(bytes_read() - before)
        return comparison

    monkeypatch.setattr(checkpoints, "compare_checkpoint", counted)
    api.verify(shop, copied, images=1)  # what is read once a process is read
    before = bytes_read()
    assert api.verify(shop, copied, images=1).checks[-1].passed
    size = copied.stat().st_size
    assert compared[-1] < 1.5 * size + weights_size(miniature.BASE_FOLDER)
    assert bytes_read() - before - compared[-1] < size  # of prompts, images and weights of ours


def weights_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def test_a_file_that_cannot_be_read_is_held_to_its_signature_all_the_same(
    shop: api.Workspace, copied: Path
) -> None:
    copied.write_bytes(copied.read_bytes()[:1000])
    with pytest.raises(api.UntrustedFileError, match="not those that were signed"):
        api.verify(shop, copied, images=1)


def test_a_signature_that_must_be_there_is_missed(
    shop: api.Workspace, keys: Path, tmp_path: Path
) -> None:
    target = tmp_path / "model.ckpt"
    api.export_composition(shop, api.plan_composition(shop), target)
    with pytest.raises(api.UntrustedFileError, match="never signed"):
        api.verify(shop, target, images=1, key=keys / "ours.pub")
    with pytest.raises(api.UntrustedFileError, match="never signed"):
        api.verify(with_policy(shop, signature_required=True), target, images=1)


@pytest.mark.parametrize("fault", ["no key", "edwards", "absent"])
def test_without_a_key_that_signs_nothing_is_written(
    shop: api.Workspace, tmp_path: Path, fault: str
) -> None:
    key = None if fault == "no key" else tmp_path / "key.pem"
    if fault == "edwards":
        make_key(tmp_path, "key", "-algorithm", "ED25519")
    workspace = replace(shop, settings=replace(shop.settings, signing_key=key))
    places = tmp_path / "places"
    places.mkdir()
    with pytest.raises((InvalidInputError, NotFoundError)):
        api.export_composition(
            workspace,
            api.plan_composition(shop),
            places / "model.ckpt",
            request=api.ReleaseRequest(sign=True),
        )
    assert list(places.iterdir()) == []


def test_overwriting_a_signed_release_takes_its_papers_away(
    shop: api.Workspace, copied: Path
) -> None:
    plan = api.plan_composition(shop)
    with pytest.raises(FileExistsError):
        api.export_composition(shop, plan, copied)
    assert beside(copied, ".sig").exists()
    api.export_composition(shop, plan, copied, overwrite=True)
    assert sorted(path.name for path in copied.parent.iterdir() if path.is_file()) == [
        copied.name,
        f"{copied.name}.md",
        f"{copied.name}.recipe.json",
    ]


def test_a_release_that_cannot_be_recorded_puts_everything_back(
    shop: api.Workspace, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: file_digest(path) for path in copied.parent.iterdir() if path.is_file()}

    def full(*_: object, **__: object) -> None:
        raise StorageError("The disk is full.")

    monkeypatch.setattr(type(shop.audit), "append", full)
    plan = api.plan_composition(shop)
    with pytest.raises(StorageError):
        api.export_composition(
            shop,
            plan,
            copied,
            overwrite=True,
            dtype="float32",
            request=api.ReleaseRequest(bill=True),
        )
    after = {path.name: file_digest(path) for path in copied.parent.iterdir() if path.is_file()}
    assert after == before


# The policy


def refused(workspace: api.Workspace, target: Path, images: int = 4) -> tuple[Check, ...]:
    """What an export was refused for; nothing may be left of it."""
    before = set(target.parent.iterdir())
    with pytest.raises(api.ReleaseRefusedError) as caught:
        api.export_composition(
            workspace,
            api.plan_composition(workspace),
            target,
            request=api.ReleaseRequest(images=images),
        )
    assert set(target.parent.iterdir()) == before
    return caught.value.refusal.broken


def test_every_broken_requirement_is_named_with_its_remedy(
    shop: api.Workspace, tmp_path: Path
) -> None:
    workspace = with_policy(
        shop,
        must_erase=["caravaggio", "Picasso", "Somebody"],
        may_generate=["Van Gogh"],
        capacity=0.01,
        signature_required=True,
        bill_of_materials=True,
    )
    checks = refused(workspace, tmp_path / "model.ckpt")
    assert [(check.name, check.subject) for check in checks] == [
        ("must erase", "Picasso"),
        ("must erase", "Somebody"),
        ("may generate", "other concepts"),
        ("capacity", "Caravaggio"),
        ("signature", "the release"),
        ("bill", "the release"),
    ]
    assert 'shiftreg erase "Picasso"' in checks[0].explanation
    assert "never erased" in checks[1].explanation
    assert "Cezanne" in checks[2].explanation
    assert "Van Gogh" not in checks[2].explanation
    assert 0.01 < checks[3].value < 1


@pytest.mark.erased("C++")
def test_what_must_be_erased_is_not_what_only_resembles_it(workspace: api.Workspace) -> None:
    standing = api.policy_standing(with_policy(workspace, must_erase=["c++", "C#", "C"]))
    assert [check.passed for check in standing.checks] == [True, False, False]
    plan = api.plan_erasures(workspace, ["C#"]).plans[0]
    assert any("another concept than 'C++'" in warning for warning in plan.warnings)
    api.erase(workspace, ["C#"], force=True)
    erased = {
        (version.concept, version.version)
        for version in workspace.registry.shifts.active("miniature")
    }
    assert erased == {("C++", 1), ("C#", 1)}


def test_leaving_out_what_must_be_erased_is_refused(shop: api.Workspace, tmp_path: Path) -> None:
    workspace = with_policy(shop, must_erase=["Caravaggio"])
    plan = api.plan_composition(workspace, api.Selection(without=["Caravaggio"]))
    with pytest.raises(api.ReleaseRefusedError, match="shift is left out"):
        api.export_composition(workspace, plan, tmp_path / "model.ckpt")
    assert list(tmp_path.glob("*model*")) == []


def test_a_file_that_breaks_a_gate_never_appears(shop: api.Workspace, tmp_path: Path) -> None:
    workspace = with_policy(shop, verify=True, gates={"ordinary": 0.0})
    checks = refused(workspace, tmp_path / "model.ckpt", images=1)
    assert names(checks) == ["ordinary"]
    assert checks[0].value > checks[0].limit == 0.0
    (measurement, *_) = reversed(workspace.registry.measurements.all("miniature", "verification"))
    assert measurement.passed is False
    assert measurement.export_digest == ""


def test_a_missing_measurement_is_a_broken_gate_that_says_what_to_run(
    shop: api.Workspace, tmp_path: Path
) -> None:
    workspace = with_policy(shop, verify=True, gates={"attack": 0.5})
    (check,) = refused(workspace, tmp_path / "model.ckpt")
    assert check.name == "attack"
    assert "shiftreg attack 'Caravaggio'" in check.explanation


def test_an_override_is_written_down_everywhere(
    shop: api.Workspace, keys: Path, tmp_path: Path
) -> None:
    workspace = with_policy(shop, must_erase=["Picasso"], gates={"ordinary": 0.0})
    plan, target = api.plan_composition(workspace), tmp_path / "model.ckpt"
    with pytest.raises(InvalidInputError, match="reason"):
        api.export_composition(workspace, plan, target, request=api.ReleaseRequest(override=True))
    result = api.export_composition(
        workspace,
        plan,
        target,
        request=api.ReleaseRequest(sign=True, images=1, override=True, reason="for the auditor"),
    )
    assert names(result.overridden) == ["must erase", "ordinary"]
    assert result.passed is False
    recipe = json.loads(result.recipe_path.read_text())
    assert recipe["override"]["reason"] == "for the auditor"
    assert [one["name"] for one in recipe["override"]["broken"]] == ["must erase", "ordinary"]
    assert "Reason: for the auditor" in beside(target, ".md").read_text()
    event = [e for e in workspace.audit.events() if e.action == "export"][-1]
    assert event.details["override"] == recipe["override"]
    report = api.check_signature(elsewhere(), target, keys / "ours.pub")
    assert report.passed
    assert report.statement["override"] == recipe["override"]
    assert report.statement["verification"]["passed"] is False
    bill = json.loads(beside(target, ".cdx.json").read_text())
    properties = {p["name"]: p["value"] for p in bill["metadata"]["component"]["properties"]}
    assert properties["shiftreg:override-reason"] == "for the auditor"
    (check,) = [c for c in api.verify(shop, target, images=1).checks if c.name == "file"]
    assert check.passed


def test_a_reason_without_something_to_override_is_not_an_override(
    shop: api.Workspace, tmp_path: Path
) -> None:
    plan = api.plan_composition(shop)
    result = api.export_composition(
        shop,
        plan,
        tmp_path / "model.ckpt",
        request=api.ReleaseRequest(override=True, reason="to be sure"),
    )
    assert result.overridden == ()
    assert "override" not in json.loads(result.recipe_path.read_text())


def test_the_standing_counts_what_is_on_record_by_the_same_gates(
    shop: api.Workspace, released: Path
) -> None:
    standing = api.policy_standing(with_policy(shop, verify=True, must_erase=["Caravaggio"]))
    assert standing.met
    assert {"must erase", "separability", "noise", "watermark"} <= set(names(standing.checks))
    standing = api.policy_standing(with_policy(shop, verify=True, gates={"noise": 0.1}))
    assert not standing.met
    assert [c.name for c in standing.checks if not c.passed] == ["verification"]


def test_without_a_policy_everything_is_met(shop: api.Workspace) -> None:
    standing = api.policy_standing(with_policy(shop))
    assert standing.met
    assert standing.checks == ()
