"""What commands pass on and print; the use cases answer with values made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from shiftreg import api
from shiftreg.api.bases import Conversion
from shiftreg.api.erasure.capacity import CapacityRow
from shiftreg.api.erasure.foreign import ForeignShift
from shiftreg.api.values import ErasurePlan, Progress
from shiftreg.concepts import Concept
from shiftreg.engines import Engine, InProcess
from shiftreg_cli.main import app

HERE = InProcess()


class Calls:
    """Puts answers in the place of use cases, and keeps what they were called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answer(open_workspace="workspace")

    def answer(self, **answers: object) -> None:
        for name, value in answers.items():
            self._monkeypatch.setattr(api, name, self._answering(name, value))

    def names(self) -> list[str]:
        return [name for name, _, _ in self.made]

    def _answering(self, name: str, value: object) -> Callable[..., object]:
        def use_case(*arguments: Any, **options: Any) -> object:
            self.made.append((name, arguments, options))
            if "observe" in options:
                options["observe"](Progress("working", 1, 2, {"loss": 0.5}))
            return value

        return use_case


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, home: Path) -> Calls:
    monkeypatch.setenv("COLUMNS", "120")
    return Calls(monkeypatch)


def planned(*plans: ErasurePlan) -> SimpleNamespace:
    """What planning erasures gives to the command."""
    return SimpleNamespace(plans=plans)


def start(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_erase_shows_the_plan_then_erases_then_says_so(calls: Calls, values: Any) -> None:
    calls.answer(plan_erasures=planned(values.erasure_plan), erase=(values.erasure,))
    result = start(
        *("erase", "Caravaggio", "--alias", "Merisi", "--set", "ridge=0.5", "--seed", "3"),
        *("--protect", "a church", "--reason", "request 17"),
    )
    assert result.exit_code == 0
    assert result.stdout.index("Erase Caravaggio") < result.stdout.index("erased (version 2)")
    (request,) = (made[1:] for made in calls.made if made[0] == "plan_erasures")
    assert request == (
        ("workspace", ["Caravaggio"]),
        {
            "aliases": ["Merisi"],
            "kind": "style",
            "method": "closed-form",
            "options": {"ridge": 0.5},
            "protect": ["a church"],
            "profile": "exact",
        },
    )
    name, arguments, options = calls.made[-1]
    assert (name, arguments) == ("erase", ("workspace", planned(values.erasure_plan)))
    options.pop("observe")
    assert isinstance(options.pop("engine"), Engine)
    assert options == {"reason": "request 17", "seed": 3, "force": False}


def test_where_concepts_are_erased_can_be_chosen(calls: Calls, values: Any) -> None:
    calls.answer(
        plan_erasures=planned(values.erasure_plan), erase=(values.erasure,), choose_engine=HERE
    )
    result = start("erase", "Caravaggio", "Picasso", "--engine", "processes", "--workers", "3")
    assert result.exit_code == 0
    (choice,) = (options for name, _, options in calls.made if name == "choose_engine")
    assert choice["workers"] == 3
    assert calls.made[-1][2]["engine"] is HERE
    assert start("erase", "Caravaggio", "--workers", "0").exit_code == 2


def test_a_dry_run_plans_and_does_not_erase(calls: Calls, values: Any) -> None:
    calls.answer(plan_erasures=planned(values.erasure_plan), erase=None)
    result = start("erase", "Caravaggio", "--dry-run")
    assert result.exit_code == 0
    assert calls.names() == ["open_workspace", "plan_erasures"]
    assert "Erase Caravaggio" in result.stdout
    assert "nothing was changed" in result.stderr


def test_a_stored_version_is_erased_again_without_a_plan(calls: Calls, values: Any) -> None:
    calls.answer(plan_erasures=planned(), erase=(values.erasure,))
    assert start("erase", "Caravaggio@2").exit_code == 0
    assert calls.names() == ["open_workspace", "plan_erasures", "erase"]


@pytest.mark.parametrize("flags", [["--json"], ["--json", "--dry-run"]])
def test_erase_prints_one_json_document(calls: Calls, values: Any, flags: list[str]) -> None:
    calls.answer(plan_erasures=planned(values.erasure_plan), erase=(values.erasure,))
    document = json.loads(start("erase", "Caravaggio", *flags).stdout)
    assert document["schema_version"] == 1
    assert len(document["items"]) == 1


def test_restore_without_a_terminal_and_without_yes_restores_nothing(
    calls: Calls, values: Any
) -> None:
    calls.answer(show_concept=values.detail, restore=(values.state,))
    result = start("restore", "Caravaggio", "--reason", "licence")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert "restore" not in calls.names()


def test_restore_says_first_what_will_generate_again(calls: Calls, values: Any) -> None:
    calls.answer(show_concept=values.detail, restore=(values.protected_state,))
    result = start("restore", "Caravaggio", "--reason", "licence", "--yes")
    assert result.exit_code == 0
    assert "Will generate again from base miniature: Caravaggio" in result.stderr
    assert calls.made[-1] == ("restore", ("workspace", ["Caravaggio"]), {"reason": "licence"})


def test_a_dry_run_of_restore_asks_nothing_and_restores_nothing(calls: Calls, values: Any) -> None:
    calls.answer(show_concept=values.detail, restore=None)
    result = start("restore", "Caravaggio", "--reason", "licence", "--dry-run")
    assert result.exit_code == 0
    assert "Will generate again" in result.stderr
    assert "restore" not in calls.names()


def test_refresh_makes_stale_shifts_anew(calls: Calls, values: Any) -> None:
    calls.answer(plan_refresh=(("Caravaggio", ("Picasso",)),), refresh=(values.erasure,))
    calls.answer(list_concepts=())
    result = start("refresh", "--reason", "new artist")
    assert result.exit_code == 0
    name, arguments, options = calls.made[-1]
    assert (name, arguments, options["reason"]) == ("refresh", ("workspace", None), "new artist")
    assert "Picasso" in result.stdout


def test_refresh_with_nothing_stale_changes_nothing(calls: Calls) -> None:
    calls.answer(plan_refresh=(), refresh=())
    result = start("refresh", "--json")
    assert result.exit_code == 0
    assert "nothing to do" in result.stderr
    assert json.loads(result.stdout) == {"schema_version": 1, "items": []}
    assert "refresh" not in calls.names()


def test_compose_writes_only_when_it_is_asked_to(calls: Calls, values: Any) -> None:
    calls.answer(plan_composition=values.plan, export_composition=values.export)
    assert start("compose", "--without", "Picasso,Van Gogh").exit_code == 0
    assert start("compose", "--export", "model.ckpt", "--dry-run").exit_code == 0
    assert "export_composition" not in calls.names()
    assert calls.made[1][1][1] == api.Selection(without=("Picasso", "Van Gogh"))


def test_a_refused_release_shows_why_and_ends_with_1(
    calls: Calls, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise api.ReleaseRefusedError(values.refusal)

    calls.answer(plan_composition=values.plan)
    monkeypatch.setattr(api, "export_composition", refuse)
    result = start("compose", "--export", "model.ckpt", "--verify")
    assert result.exit_code == 1
    assert "Caravaggio is still seen." in result.stdout
    assert "Not released: model.ckpt was not written." in result.stderr
    document = json.loads(start("compose", "--export", "model.ckpt", "--json").stdout)
    assert document["broken"][0]["limit"] == 0.05


def test_options_of_a_release_are_passed_on(calls: Calls, values: Any) -> None:
    calls.answer(plan_composition=values.plan, export_composition=values.export)
    options = ("--sign", "--bill", "--verify", "--override", "--reason", "x")
    assert start("compose", "--export", "model.ckpt", *options).exit_code == 0
    assert calls.made[-1][2]["request"] == api.ReleaseRequest(
        verify=True, sign=True, bill=True, override=True, reason="x"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--verify",),
        ("--sign",),
        ("--bill",),
        ("--signing-key", "key.pem"),
        ("--export", "model.ckpt", "--override"),
        ("--export", "model.ckpt", "--override", "--reason", " "),
    ],
)
def test_options_of_a_release_need_a_file_and_an_override_a_reason(
    calls: Calls, values: Any, arguments: tuple[str, ...]
) -> None:
    calls.answer(plan_composition=values.plan, export_composition=values.export)
    assert start("compose", *arguments).exit_code == 2
    assert "export_composition" not in calls.names()


def test_the_signing_key_is_a_setting(calls: Calls, values: Any, tmp_path: Path) -> None:
    calls.answer(plan_composition=values.plan, export_composition=values.export)
    start("compose", "--export", "model.ckpt", "--sign", "--signing-key", "key.pem")
    (settings,) = calls.made[0][1]
    assert settings.signing_key == tmp_path / "key.pem"


def test_a_file_that_is_not_what_was_signed_ends_with_1(
    calls: Calls, values: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def distrust(*_: object, **__: object) -> None:
        raise api.UntrustedFileError(values.distrust)

    monkeypatch.setattr(api, "verify", distrust)
    (tmp_path / "model.ckpt").touch()
    result = start("verify", "model.ckpt", "--key", "key.pub")
    assert result.exit_code == 1
    assert "Not trusted" in result.stdout


def test_a_signature_is_checked_without_opening_the_registry(
    calls: Calls, values: Any, tmp_path: Path
) -> None:
    (tmp_path / "model.ckpt").touch()
    calls.answer(check_signature=values.trust)
    result = start("verify", "model.ckpt", "--key", "key.pub", "--signature-only")
    assert result.exit_code == 0
    assert "Signed and unchanged" in result.stdout
    assert calls.names() == ["check_signature"]
    calls.answer(check_signature=values.distrust)
    arguments = ("verify", "model.ckpt", "--signature-only", "--json")
    assert start(*arguments).exit_code == 1
    assert json.loads(start(*arguments).stdout)["passed"] is False
    assert start("verify", "--signature-only").exit_code == 2


def test_a_policy_that_is_not_met_ends_with_1(calls: Calls, values: Any) -> None:
    calls.answer(policy_standing=values.standing)
    result = start("policy", "--without", "Picasso")
    assert result.exit_code == 1
    assert "The policy is not met" in result.stdout
    assert calls.made[-1][1][1] == api.Selection(without=("Picasso",))
    assert json.loads(start("policy", "--json").stdout)["policy"]["verify"] is True
    calls.answer(policy_standing=values.no_policy)
    result = start("policy")
    assert result.exit_code == 0
    assert "must_erase" in result.stdout


def test_verify_passes_gates_on(calls: Calls, values: Any) -> None:
    calls.answer(verify=values.passed_verification)
    assert start("verify", "--gate", "ordinary=0.01", "--gate", "attack=1").exit_code == 0
    assert calls.made[-1][2]["gates"] == {"ordinary": 0.01, "attack": 1.0}
    assert start("verify", "--gate", "ordinary=low").exit_code == 2


def test_compose_exports_the_plan_that_it_showed(calls: Calls, values: Any) -> None:
    calls.answer(plan_composition=values.plan, export_composition=values.export)
    result = start("compose", "--export", "model.ckpt", "--dtype", "float16", "--force")
    assert result.exit_code == 0
    assert result.stdout.index("erased (version 2)") < result.stdout.index("model.ckpt")
    name, arguments, options = calls.made[-1]
    assert (name, arguments) == (
        "export_composition",
        ("workspace", values.plan, Path("model.ckpt")),
    )
    assert (options["dtype"], options["overwrite"]) == ("float16", True)


def test_a_failed_check_ends_with_1_and_a_passed_one_with_0(calls: Calls, values: Any) -> None:
    calls.answer(verify=values.verification)
    assert start("verify").exit_code == 1
    failed = start("verify", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["passed"] is False
    calls.answer(verify=values.passed_verification)
    assert start("verify").exit_code == 0


def test_generate_passes_seeds_and_choice_on(calls: Calls, values: Any) -> None:
    calls.answer(generate_grid=values.grid)
    result = start("generate", "Picasso", "--seed", "7", "--count", "2", "--only", "Caravaggio")
    assert result.exit_code == 0
    _, arguments, options = calls.made[-1]
    assert arguments == ("workspace", ["Picasso"], Path("grid.png"))
    assert (options["seeds"], options["selection"].only) == ((7, 8), ("Caravaggio",))
    assert "grid.png" in result.stdout


def test_init_reads_prompts_from_files(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a church\na tench\n")
    calls.answer(register_base=None)
    start("init", "folder", "--protect", "prompts.txt", "--trigger", "CCS 2024=id")
    _, arguments, options = calls.made[-1]
    assert arguments == ("workspace", "folder")
    assert options["protected"] == ("a church", "a tench")
    assert options["triggers"] == {"CCS 2024": "id"}


def test_init_converts_a_single_file_first(calls: Calls, tmp_path: Path) -> None:
    made = Conversion(
        file=tmp_path / "sd.ckpt",
        file_digest="d" * 64,
        folder=tmp_path / "bases" / "x",
        exists=False,
        config=tmp_path,
        components={"unet": 686, "vae": 248, "text_encoder": 196},
        averaged=688,
        ema=False,
        left_out=("betas", "alphas_cumprod", "logvar", "epoch"),
    )
    calls.answer(convert_base=made, register_base=None)
    dry = start("init", "sd.ckpt", "--config", str(tmp_path), "--dry-run")
    assert "686 of unet, 248 of vae, 196 of text_encoder" in dry.stdout
    assert "averaged (EMA) ones were skipped, --ema uses them" in dry.stdout
    assert "4 tensors: betas, alphas_cumprod, logvar, ..." in dry.stdout
    assert "register_base" not in calls.names()
    assert json.loads(start("init", "sd.ckpt", "--dry-run", "--json").stdout)["averaged"] == 688
    start("init", "sd.ckpt", "--config", str(tmp_path))
    _, arguments, options = calls.made[-1]
    assert arguments == ("workspace", str(made.folder))
    assert options["name"] == "sd"


@pytest.mark.parametrize("option", [("--ema",), ("--config", "."), ("--dry-run",)])
def test_options_of_single_files_are_refused_elsewhere(calls: Calls, option: list[str]) -> None:
    calls.answer(register_base=None)
    refused = start("init", "folder", *option)
    assert refused.exit_code == 2
    assert "require a single file" in refused.stderr


def test_reading_commands_print_json(calls: Calls, values: Any) -> None:
    calls.answer(list_concepts=(values.state,), show_concept=values.detail)
    assert json.loads(start("list", "--json").stdout)["items"][0]["concept"] == "Caravaggio"
    assert json.loads(start("show", "Caravaggio", "--json").stdout)["state"]["version"] == 2


def test_methods_are_listed_and_a_named_one_shows_its_options() -> None:
    listed = start("methods", "--json")
    assert {item["name"] for item in json.loads(listed.stdout)["items"]} >= {"esd", "uce", "srs-me"}
    assert "learning_rate" in start("methods", "esd").stdout


def test_capacity_passes_profiles_on_and_shows_a_verdict(calls: Calls) -> None:
    row = CapacityRow("exact", "Monet", 12, 256, 181, 75, 15, 0.0, 2.3, 7e-8, "fits")
    calls.answer(plan_capacity=(row,))
    result = start("capacity", "Monet", "--profile", "exact", "--plot", "capacity.png")
    assert result.exit_code == 0
    _, arguments, options = calls.made[-1]
    assert arguments == ("workspace", ["Monet"])
    assert (options["profiles"], options["plot"]) == (("exact",), Path("capacity.png"))
    assert "181 of 256" in result.stdout
    assert "fits" in result.stdout
    start("capacity")
    assert "profiles" not in calls.made[-1][2]


def test_import_shows_what_the_file_holds_then_registers_it(
    calls: Calls, values: Any, tmp_path: Path
) -> None:
    foreign = ForeignShift(
        path=tmp_path / "lora.safetensors",
        form="lora, kohya",
        digest="0" * 64,
        concept=Concept("Caravaggio"),
        parameters=14,
        text_layers=12,
        strength=-1.0,
        left_out=("The text encoder's part was left out.",),
        details={"ranks": [4]},
        deltas={},
    )
    calls.answer(read_import=foreign, import_shift=(values.erasure,))
    command = ("import", "lora.safetensors", "--concept", "Caravaggio", "--strength", "-1")
    dry = start(*command, "--dry-run", "--json")
    assert json.loads(dry.stdout)["text_layers"] == 12
    assert "import_shift" not in calls.names()
    result = start(*command, "--decouple", "--unet-only", "--reason", "partner")
    assert result.exit_code == 0
    assert "lora, kohya" in result.stdout
    assert "left out" in result.stdout
    reading = [options for name, _, options in calls.made if name == "read_import"][-1]
    assert (reading["strength"], reading["unet_only"]) == (-1.0, True)
    name, arguments, options = calls.made[-1]
    assert (name, arguments) == ("import_shift", ("workspace", foreign))
    assert (options["decouple"], options["reason"]) == (True, "partner")


def test_decouple_says_what_it_did(calls: Calls, values: Any) -> None:
    calls.answer(decouple=values.erasure)
    result = start("decouple", "Caravaggio@1", "--reason", "licence")
    assert result.exit_code == 0
    assert "erased (version 2)" in result.stdout
    _, arguments, options = calls.made[-1]
    assert (arguments, options["reason"]) == (("workspace", "Caravaggio@1"), "licence")


def test_a_shift_that_is_not_separable_is_marked_in_the_list(calls: Calls, values: Any) -> None:
    calls.answer(list_concepts=(replace(values.state, separable=False, stale_towards=()),))
    assert "not separable" in start("list").stdout


def test_an_interrupt_in_a_use_case_ends_with_130(
    calls: Calls, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    calls.answer(plan_erasures=planned(values.erasure_plan))
    monkeypatch.setattr(api, "erase", interrupted)
    result = start("erase", "Caravaggio")
    assert result.exit_code == 130
    assert "left nothing behind" in result.stderr


def test_ui_says_where_and_hands_over_to_mlflow(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr("os.execvp", lambda *arguments: started.append(arguments))
    result = start("ui", "--port", "8080")
    assert result.exit_code == 0
    assert "http://127.0.0.1:8080" in result.stderr
    [(program, command)] = started
    assert command[0] == program
    assert "8080" in command


def test_why_something_is_done_is_said_to_the_workspace(calls: Calls, values: Any) -> None:
    calls.answer(verify=values.passed_verification)
    why = ("--reason", "asked by the heirs", "--request", " C-17 ", "--licence", "")
    assert start("verify", *why).exit_code == 0
    name, _, options = calls.made[0]
    assert callable(options.pop("warn"))
    assert (name, options) == (
        "open_workspace",
        {"reading": False, "reason": "asked by the heirs", "request": "C-17"},
    )


def test_restoring_without_a_reason_is_refused_before_anything_is_opened(calls: Calls) -> None:
    result = start("restore", "Caravaggio", "--yes")
    assert result.exit_code == 2
    assert "--reason is missing" in result.stderr
    assert calls.made == []
