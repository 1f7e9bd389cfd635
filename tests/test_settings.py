from __future__ import annotations

from pathlib import Path

import pytest

from shiftreg.errors import InvalidInputError
from shiftreg.settings import load_settings


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "BASE", "TRACKING_URI", "SIGNING_KEY", "VERIFYING_KEY"):
        monkeypatch.delenv(f"SHIFTREG_{name}", raising=False)


def write(text: str) -> None:
    Path("shiftreg.toml").write_text(text)


def test_without_anything_the_home_lies_here_and_the_base_is_the_miniature(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.home, settings.base, settings.tracking_uri) == (
        tmp_path / ".shiftreg",
        "miniature",
        None,
    )
    assert settings.gates == {}


def test_a_flag_goes_before_the_environment_and_that_before_the_project(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write('base = "project"')
    assert load_settings().base == "project"
    monkeypatch.setenv("SHIFTREG_BASE", "environment")
    assert load_settings().base == "environment"
    assert load_settings(base="flag").base == "flag"


def test_gates_are_a_table_of_the_project() -> None:
    write("[gates]\nordinary = 0.01\nattack = 0.2\n")
    assert load_settings().gates == {"ordinary": 0.01, "attack": 0.2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gates = 3", r"\[gates\]"),
        ("policy = 3", r"\[policy\]"),
        ("gtaes = 3", "unknown key 'gtaes'"),
        ("base = ", "is not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_project_file_is_named(text: str, message: str) -> None:
    write(text)
    with pytest.raises(InvalidInputError, match=message):
        load_settings()


def test_keys_come_from_flag_environment_or_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().signing_key is None
    write('signing_key = "keys/ours.pem"\nverifying_key = "keys/ours.pub"')
    assert load_settings().signing_key == tmp_path / "keys/ours.pem"
    assert load_settings().verifying_key == tmp_path / "keys/ours.pub"
    monkeypatch.setenv("SHIFTREG_SIGNING_KEY", "/elsewhere.pem")
    assert load_settings().signing_key == Path("/elsewhere.pem")
    assert load_settings(signing_key=Path("/flag.pem")).signing_key == Path("/flag.pem")
