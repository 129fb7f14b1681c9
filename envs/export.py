"""Write envs/*.yaml from uv.lock: conda brings Python and pip, every package is pinned as the lock pins it.

Neither the development tools nor the text encoder's package (group `real`) is in them: the one rule that reads it runs in
Snakemake's own Python.

refers.yaml is every rule's; refers-cu12.yaml is that of GPU jobs where the driver is older than CUDA 13, with the lock's group
cuda12. apex.yaml is that of GPU jobs with `precision: apex-*`: the same pins, and what NVIDIA Apex is
built with by apex.post-deploy.sh, which Snakemake runs in the new environment.

python envs/export.py            # `make lock` runs it; a test fails when both disagree
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HEADER = "# Generated from uv.lock by `make lock`: the same versions that the tests run on.\n"


def environment(requirements: str, extra: tuple[str, ...] = ()) -> str:
    """The conda environment of exported requirement lines, markers kept; `extra` packages come from conda."""
    pins = [
        line.strip()
        for line in requirements.splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    lines = [
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        "  - python =3.11",
        "  - pip",
        *(f"  - {name}" for name in extra),
        "  - pip:",
    ]
    return HEADER + "\n".join(lines + [f'      - "{pin}"' for pin in pins]) + "\n"


def exported(uv: str, *options: str) -> str:
    """The lock as requirement lines, without its default groups (development tools)."""
    command = [
        uv,
        "export",
        "--frozen",
        "--no-default-groups",
        *options,
        "--no-hashes",
        "--no-annotate",
        "--no-header",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE.parent)
    return done.stdout.replace('"', "'")


def main() -> None:
    uv = sys.argv[1] if len(sys.argv) > 1 else "uv"
    latest, cuda12 = exported(uv), exported(uv, "--group", "cuda12")
    texts = {
        "refers": environment(latest),
        "refers-cu12": environment(cuda12),
        "apex": environment(latest, ("git", "setuptools", "wheel")),
    }
    for name, text in texts.items():
        (HERE / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
