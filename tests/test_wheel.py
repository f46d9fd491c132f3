"""The wheel holds all that the commands need: it is built, installed alone, and run from an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def test_the_wheel_runs_from_an_empty_folder(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    offline = {**os.environ, "PIP_NO_INDEX": "1"}
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(REPOSITORY)]
    subprocess.run(wheel, check=True, env=offline)
    (built,) = tmp_path.glob("dwbench-*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(built)], check=True, env=offline)

    def dwbench(*arguments: str) -> str:
        command = [sys.executable, "-c", "import sys; from dwbench.cli import main; sys.exit(main())", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [sys.executable, "-c", "import dwbench; print(dwbench.__file__)"],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(where.strip()).is_relative_to(site), "the tests would run the checkout and not the wheel"
    assert "data_whisperer" in dwbench("list", "selectors")
    assert "quickstart" in dwbench("list", "experiments")
    assert "zero_shot | 0 of 120 rows" in dwbench("check", "experiment=quickstart")
    assert "Ours: 0 of the 225" in dwbench("table", "table2")
    assert (site / "dwbench" / "evaluation" / "tasks" / "dwbench_nll.yaml").is_file()
