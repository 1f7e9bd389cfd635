"""Which base a file was made for, by its own words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shiftreg.checkpoints import StatedBase, read_foreign
from shiftreg.errors import IncompatibleError
from tests.conftest import LAYER, WIDTH


def check(
    metadata: dict[str, str], *, digest: str = "a" * 64, kohya_version: str = "sd_v1"
) -> None:
    StatedBase.of(metadata).check("'x.safetensors'", "mine", digest, kohya_version)


def test_a_file_of_this_base_or_that_says_nothing_passes() -> None:
    check({})
    check({"shiftreg.base_sha256": "a" * 64, "ss_base_model_version": "sd_v1"})
    check({"ss_base_model_version": "sd_v1"}, kohya_version="")  # a base of no known release


def test_a_digest_of_another_base_is_refused_with_both() -> None:
    with pytest.raises(IncompatibleError, match=r"for base b{12}, and 'mine' is a{12}\. .*--base"):
        check({"shiftreg.base_sha256": "b" * 64})


@pytest.mark.parametrize(
    ("stated", "own"),
    [
        ("sdxl_base_v1-0", "sd_v1"),
        ("sd_v1", "sdxl_base_v1-0"),
        ("sd_v1", "sd_v2_v"),
        ("flux1", "sd_v2"),
        ("sd3", "sdxl_base_v1-0"),
    ],
)
def test_a_version_of_another_family_is_refused_with_the_remedy(stated: str, own: str) -> None:
    with pytest.raises(IncompatibleError, match=rf"version is '{stated}'.*'mine' is .*--base"):
        check({"ss_base_model_version": stated}, kohya_version=own)


@pytest.mark.parametrize(
    ("stated", "own"), [("sd_v2", "sd_v2_v"), ("", "sd_v1"), ("somebody's own", "sd_v1")]
)
def test_versions_of_one_family_and_unknown_ones_pass(stated: str, own: str) -> None:
    check({"ss_base_model_version": stated}, kohya_version=own)


def test_what_a_header_says_comes_with_the_change(
    tmp_path: Path, stable_diffusion_base: Path
) -> None:
    header = {"shiftreg.base_sha256": "b" * 64, "ss_base_model_version": "sdxl_base_v1-0"}
    key = f"unet.{LAYER}"
    pair = {f"{key}.lora_A.weight": torch.ones(1, WIDTH), f"{key}.lora_B.weight": torch.ones(8, 1)}
    file = tmp_path / "lora.safetensors"
    save_file(pair, file, header)
    stated = read_foreign(file, stable_diffusion_base).stated_base
    assert stated == StatedBase("b" * 64, "sdxl_base_v1-0")
    save_file(pair, file)
    assert read_foreign(file, stable_diffusion_base).stated_base == StatedBase()
