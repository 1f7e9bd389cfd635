"""What whole commands take, beside the same commands of an earlier revision, in the same run."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rows.measure import Line, Setting, at_most, race

EARLIER = os.environ.get("SHIFTREG_BENCHMARKS_EARLIER", "1b47632")
ROOT = Path(__file__).parents[2]
RUN = "import sys; from shiftreg_cli.main import run; sys.argv = ['shiftreg', *sys.argv[1:]]; run()"
VERIFY = ("verify", "model.safetensors", "--key", "signer.pub")


@dataclass
class Build:
    """A revision whose commands run in a folder of their own.

    Attributes:
        folder: Holds ``code``, and ``work``, in which commands run.
        peaks: The most memory of each run, in MB.
    """

    folder: Path
    peaks: list[float] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def checkout(self, revision: str | None) -> None:
        """Puts the code there: of a revision, or as it is now."""
        code = self.folder / "code"
        code.mkdir(parents=True)
        self.work.mkdir()
        if revision is None:
            for name in ("shiftreg", "cli"):
                (code / name).symlink_to(ROOT / name)
        else:
            command = ["git", "archive", revision, "shiftreg", "cli"]
            archive = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(code, filter="data")
        (code / "shiftreg_cli").symlink_to(code / "cli")

    def run(self, *arguments: str, expect: Sequence[int] = (0,)) -> None:
        """Runs ``shiftreg``, and notes its peak of memory."""
        environment = {name: v for name, v in os.environ.items() if not name.startswith("SHIFTREG")}
        environment |= {
            "PYTHONPATH": str(self.folder / "code"),
            "SHIFTREG_HOME": "home",
            "SHIFTREG_CACHE": "cache",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            cwd=self.work,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in expect:
            raise RuntimeError(f"shiftreg {' '.join(arguments)}: exit code {process.returncode}")
        self.peaks.append(usage.ru_maxrss / 1024)

    def keep(self, name: str) -> None:
        """Keeps the folder that commands run in, as it is now."""
        shutil.copytree(self.work, self.folder / name)

    def reset(self, name: str) -> None:
        """Brings it back, under the addresses that its registry knows."""
        shutil.rmtree(self.work)
        shutil.copytree(self.folder / name, self.work)

    def prepare(self) -> None:
        """Makes what commands start from: nothing, a base, a shift, a signed release of two."""
        key = ec.generate_private_key(ec.SECP256R1())
        (self.work / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (self.work / "signer.pub").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        self.keep("fresh")
        self.run("init", "miniature")
        self.keep("registered")
        self.run("erase", "Picasso")
        self.keep("erased")
        self.run("erase", "Caravaggio")
        self.run("compose", "--export", VERIFY[1], "--sign", "--signing-key", "key.pem")
        self.keep("released")


def measure(setting: Setting) -> list[Line]:
    folder = setting.folder / "commands"
    shutil.rmtree(folder, ignore_errors=True)
    now, earlier = Build(folder / "now"), Build(folder / "earlier")
    for build, revision in ((now, None), (earlier, EARLIER)):
        build.checkout(revision)
        build.prepare()
    lines = []
    for what, start, arguments, limit in (
        ("erase Caravaggio, in a new home", "fresh", ("erase", "Caravaggio"), 1 / 2.5),
        ("erase Caravaggio", "registered", ("erase", "Caravaggio"), 1 / 2.5),
        ("erase Caravaggio, after Picasso", "erased", ("erase", "Caravaggio"), 1 / 2.5),
        ("verify FILE, signed", "released", VERIFY, 1 / 2),
        ("list", "released", ("list",), 1),
    ):
        now.peaks, earlier.peaks = [], []
        times = race(
            setting,
            {
                "now": lambda arguments=arguments: now.run(*arguments),
                "earlier": lambda arguments=arguments: earlier.run(*arguments),
            },
            before=lambda start=start: (now.reset(start), earlier.reset(start)),
        )
        lines.append(
            at_most(
                limit,
                f"`shiftreg {what}`",
                times["now"].wall,
                f"the same at {EARLIER}",
                times["earlier"].wall,
                note=f"{median(now.peaks):.0f} MB, earlier {median(earlier.peaks):.0f} MB",
                others={
                    "processor": [times["now"].processor, times["earlier"].processor],
                    "megabytes": [now.peaks, earlier.peaks],
                },
            )
        )
    shutil.rmtree(folder)
    return lines
