"""From command-line overrides to validated objects. Hydra composes; every mistake becomes one line."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dwbench.budget import parse_budget
from dwbench.component import identity
from dwbench.errors import UserError, nearest
from dwbench.models.spec import LM
from dwbench.run import Run
from dwbench.selectors.base import Selector

GROUPS = ("selector", "model", "dataset", "train", "eval", "launch", "experiment")
OPEN_SECTION = "selector_settings"
"""Settings for one selector in a sweep over several; its keys are selectors' names, so any may be added."""


def conf_folder() -> Path:
    """The folder of Hydra configuration: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "conf"


def conf_folders() -> list[Path]:
    """Where configuration is looked for: the package's, and `conf/` in the working folder for a user's own."""
    own = Path("conf").resolve()
    package = conf_folder().resolve()
    return [package, own] if own.is_dir() and own != package else [package]


def search_path() -> list[str]:
    """Hydra's override that adds a user's own folder."""
    return [f"hydra.searchpath=[file://{folder}]" for folder in conf_folders()[1:]]


def names(group: str) -> list[str]:
    """What can be chosen in a configuration group."""
    return sorted({path.stem for folder in conf_folders() for path in (folder / group).glob("*.yaml")})


def settings_of(group: str, name: str) -> dict[str, Any]:
    """The fields in the file of a configured selector, model or data set. `name` is one of `names(group)`."""
    paths = [folder / group / f"{name}.yaml" for folder in conf_folders()]
    found = next(path for path in paths if path.exists())
    return plain_dict(yaml.safe_load(found.read_text(encoding="utf-8")))


@contextmanager
def _hydra() -> Iterator[None]:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    # Inside a Hydra job another composition is running: put it back afterwards.
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder().resolve()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = running


@dataclass(frozen=True)
class Job:
    """One composed configuration: plain data, the name chosen in each group, and the overrides that made it."""

    config: Mapping[str, Any]
    choices: Mapping[str, str | None]
    overrides: tuple[str, ...]


def compose(overrides: Sequence[str]) -> Job:
    """The configuration that the overrides (none of them a sweep) make. Raises UserError."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with _hydra():
            composed = hydra.compose("config", [*overrides, *search_path()], return_hydra_config=True)
            choices = dict(composed.hydra.runtime.choices)
            own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
            config = OmegaConf.to_container(own, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error)) from None
    missing = _missing(config)
    if missing:
        raise UserError(f"{missing}: has no value: give {missing}=...")
    return Job(plain_dict(config), choices, tuple(overrides))


def plain_dict(config: object) -> dict[str, Any]:
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _missing(config: object, path: str = "") -> str | None:
    """The first key whose value is `???`."""
    if config == "???":
        return path
    if isinstance(config, dict):
        found = (_missing(value, f"{path}.{key}" if path else str(key)) for key, value in config.items())
        return next((place for place in found if place), None)
    return None


def _one_line(error: Exception) -> str:
    """Hydra's message in our words where it is a misspelt name or key, else its first lines joined."""
    text = str(error)
    group = re.search(r"In '[^']*': Could not find '([\w-]+)/([^']+)'|Could not find '([\w-]+)/([^']+)'", text)
    if group:
        kind, name = [part for part in group.groups() if part][:2]
        if kind in GROUPS:
            return f"{kind}={name}: no such {kind}: {nearest(name, names(kind))}"
    key = re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text) or re.search(
        r"Could not override '([^']+)'", text
    )
    if key:
        full = key.group(key.lastindex or 1)
        known = {key.rpartition(".")[2]: key for key in _known_keys(full)}
        close = difflib.get_close_matches(full.rpartition(".")[2], list(known), n=1)
        hint = (
            f"did you mean {known[close[0]]!r}?" if close else f"known here: {', '.join(known.values()) or 'nothing'}"
        )
        return f"{full}: no such key: {hint}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "full_key" not in line)[:500]


def _known_keys(full: str) -> list[str]:
    """Keys beside `full`, read from the configuration files of its group (or the top level)."""
    section, _, _ = full.rpartition(".")
    top = section.split(".")[0]
    paths = (conf_folder() / top).glob("*.yaml") if section else [conf_folder() / "config.yaml"]
    prefix = f"{section}." if section else ""
    found: set[str] = set()
    for path in paths:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for part in section.split(".")[1:]:
            data = data.get(part) or {} if isinstance(data, dict) else {}
        found |= {f"{prefix}{key}" for key in data if key not in ("defaults", "_target_", "hydra")}
    return sorted(found | set(GROUPS if not section else ()))


def build(path: str, config: Mapping[str, Any]) -> Any:
    """The object that `_target_` and fields describe. Raises UserError naming `path.field`."""
    import pydantic
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(dict(config), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        while not isinstance(cause, pydantic.ValidationError | UserError) and cause is not None and cause.__cause__:
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, pydantic.ValidationError):
            raise UserError(_validation_line(path, cause)) from None
        target = config.get("_target_")
        why = f"{type(cause).__name__}: {cause}" if cause else str(error).split(", set env")[0]
        raise UserError(f"{path}: {target} can't be made: {' '.join(why.split())[:400]}") from None


def _validation_line(path: str, error: Any) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "__init__")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "unexpected_keyword_argument":
        return f"{path}.{field}: no such key"
    if first["type"] == "value_error" and not field:
        return f"{path}.{message}"
    return f"{path}.{field}={first.get('input')!r}: {message[0].lower()}{message[1:]}"


def model_named(name: str, key: str) -> LM:
    """A configured model by its name, else a folder or hub id (`owner/name`). Raises UserError that blames `key`."""
    if name in names("model"):
        return _as_lm(build(key, settings_of("model", name)))
    if Path(name).expanduser().is_dir():
        return LM(name=Path(name).expanduser().resolve().name, source=name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return LM(name=name.rsplit("/", 1)[-1], source=name)
    raise UserError(f"{key}={name}: no configured model, no folder and no hub id: {nearest(name, names('model'))}")


def _as_lm(built: object) -> LM:
    assert isinstance(built, LM)
    return built


def selector_named(name: str, settings: Mapping[str, Any], key: str = "selector") -> tuple[Selector, str]:
    """The configured selector `name` with `settings` over its fields, and its label (`name(field=value)`)."""
    if name not in names("selector"):
        raise UserError(f"{key}={name}: no such selector: {nearest(name, names('selector'))}")
    data = settings_of("selector", name)
    for field in settings:
        if field not in data:
            known = [field for field in data if field != "_target_"]
            hint = nearest(field, known) if known else "it has no settings"
            raise UserError(f"{key}.{field}: {name} has no such setting: {hint}")
    default, built = build(key, data), build(key, {**data, **settings})
    before, after = identity(default), identity(built)
    changed = ", ".join(f"{field}={_short(after[field])}" for field in data if after.get(field) != before.get(field))
    assert isinstance(built, Selector)
    return built, f"{name}({changed})" if changed else name


def _short(value: object) -> str:
    return str(value).replace(" ", "")


def build_run(job: Job) -> Run:
    """The run that a composed configuration describes, all objects built and validated. Raises UserError."""
    config = job.config
    name = str(job.choices["selector"])
    for other in config[OPEN_SECTION] or {}:
        if other not in names("selector"):
            raise UserError(f"{OPEN_SECTION}.{other}: no such selector: {nearest(other, names('selector'))}")
    settings = {field: value for field, value in config["selector"].items() if field != "_target_"}
    special = (config[OPEN_SECTION] or {}).get(name) or {}
    # What the command line says of `selector.field` itself goes before the section for several.
    said = {override.split("=")[0].lstrip("+") for override in job.overrides}
    settings |= {field: value for field, value in special.items() if f"selector.{field}" not in said}
    selector, label = selector_named(name, settings)
    model = _as_lm(build("model", config["model"]))
    scorer = model if config["scorer_model"] is None else model_named(str(config["scorer_model"]), "scorer_model")
    return Run(
        dataset=build("dataset", config["dataset"]),
        model=model,
        scorer=scorer,
        selector=selector,
        selector_name=name,
        selector_label=label,
        budget=parse_budget(config["budget"]),
        seed=_whole("seed", config["seed"]),
        split_seed=_whole("split_seed", config["split_seed"]),
        train=build("train", config["train"]),
        evaluation=build("eval", config["eval"]),
        experiment=config["experiment_name"],
    )


def _whole(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UserError(f"{key}={value}: must be a whole number from 0")
    return value
