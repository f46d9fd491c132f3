"""From command-line overrides to validated objects. Hydra composes; every mistake becomes one line."""

import dataclasses
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
from dwbench.data.base import Task
from dwbench.errors import UserError, nearest
from dwbench.files import expanded
from dwbench.models.encoder import Encoder
from dwbench.models.loading import load_config
from dwbench.models.spec import LM
from dwbench.run import Run
from dwbench.selectors.base import ScoreSelector, Selector, SetSelector
from dwbench.synthesis import Writer
from dwbench.toplevel import TopLevel

GROUPS = ("selector", "model", "embedder", "dataset", "plant", "synthesise", "train", "eval", "launch", "experiment")
OPEN_SECTION = "selector_settings"
"""Settings for one selector in a sweep over several; its keys are selectors' names, so any may be added."""

NONE = ("experiment=null", "plant=null", "synthesise=null")
"""Groups of which nothing need be chosen, said so."""

LONGEST = 8192
"""`max_length` at most of a model that is not configured; what many models could take fits no memory."""


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
    try:
        settings = yaml.safe_load(found.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{found}: is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(settings, dict) or "_target_" not in settings:
        raise UserError(f"{found}: has no _target_: name the class that it configures")
    return plain_dict(settings)


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
    """The configuration that the overrides (none of them a sweep) make, its top level checked. Raises UserError."""
    import pydantic

    in_groups = [override for override in overrides if override.partition("=")[0] in GROUPS]
    for override in in_groups:
        group, _, name = override.partition("=")
        if name.strip("'\"") not in names(group) and override not in NONE:
            raise UserError(f"{override}: no such {group}: {nearest(name, names(group))}")
    try:
        job = _composed(overrides)
    except UnknownKey as error:
        raise UserError(_no_such_key(error.key, _composed(in_groups).config)) from None
    missing = _missing(job.config)
    if missing:
        raise UserError(f"{missing}: has no value: give {missing}=...")
    try:
        TopLevel(**{key: value for key, value in job.config.items() if key not in GROUPS})
    except pydantic.ValidationError as error:
        raise UserError(_validation_line("", error, job.config)) from None
    return job


class UnknownKey(Exception):
    """Hydra knows no such key to override."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _composed(overrides: Sequence[str]) -> Job:
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with _hydra():
            composed = hydra.compose("config", [*overrides, *search_path()], return_hydra_config=True)
            choices = dict(composed.hydra.runtime.choices)
            own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
            return Job(plain_dict(OmegaConf.to_container(own, resolve=True)), choices, tuple(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        text = str(error)
        unknown = re.search(r"is not in struct\s+full_key: (\S+)", text) or re.search(
            r"Could not override '(.+?)'", text
        )
        if unknown:
            raise UnknownKey(unknown[1]) from None
        launcher = re.search(r"Could not find 'hydra/launcher/(\w+)'", text)
        if launcher:
            name = launcher[1]
            raise UserError(f"launch={name}: its plugin is missing: pip install 'dwbench[{name}]'") from None
        lines = (line.strip() for line in text.splitlines() if line.strip() and "full_key" not in line)
        raise UserError(" ".join(lines)[:500]) from None


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


def _no_such_key(full: str, config: object) -> str:
    """One line on the unknown key `full`, with the nearest one beside it in `config`."""
    section, _, name = full.rpartition(".")
    for part in section.split(".") if section else ():
        config = config.get(part) if isinstance(config, Mapping) else None
    known = [key for key in config if key not in (name, "_target_")] if isinstance(config, Mapping) else []
    close = difflib.get_close_matches(name, known, n=1)
    prefix = f"{section}." if section else ""
    if close:
        return f"{full}: no such key: did you mean {prefix + close[0]!r}?"
    if not known:
        return f"{full}: no such key: {section or 'this'} has no settings"
    return f"{full}: no such key: known here: {', '.join(prefix + key for key in sorted(known))}"


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
            inner = re.search(r"full_key: (\S+)", str(error))  # of a component within the component
            where = f"{path}.{inner[1]}" if inner else path
            raise UserError(_validation_line(where, cause, {path: config})) from None
        target = config.get("_target_")
        why = f"{type(cause).__name__}: {cause}" if cause else str(error).split(", set env")[0]
        raise UserError(f"{path}: {target} can't be made: {' '.join(why.split())[:400]}") from None


def _validation_line(path: str, error: Any, config: object) -> str:
    """One line on a value that was refused in the section `path` (or the top level) of `config`."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "__init__")
    prefix = f"{path}." if path else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "unexpected_keyword_argument":
        return _no_such_key(f"{prefix}{field}", config)
    if first["type"] == "value_error" and not field:
        return f"{prefix}{message}"
    return f"{prefix}{field}={first.get('input')!r}: {message[0].lower()}{message[1:]}"


def model_named(name: str, key: str) -> LM:
    """A configured model by its name or source, else a folder or hub id (`owner/name`), with as long sequences as its
    own configuration says, up to `LONGEST`. Raises UserError that blames `key`, and for what can't be reached."""
    configured = _configured("model", name, key)
    if configured is not None:
        return _as_lm(build(key, settings_of("model", configured)))
    folder = expanded(name)
    if folder.is_dir():
        return _as_long_as_it_takes(LM(name=folder.resolve().name, source=name))
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return _as_long_as_it_takes(LM(name=name.rsplit("/", 1)[-1], source=name))
    raise UserError(f"{key}={name}: no configured model, no folder and no hub id: {nearest(name, names('model'))}")


def _configured(group: str, name: str, key: str) -> str | None:
    """The configured model or encoder that is called `name`, or else is made of it as its source; None: there is none.

    Raises UserError that blames `key` where several are.
    """
    known = names(group)
    if name in known:
        return name
    found = [other for other in known if _same_source(str(settings_of(group, other).get("source")), name)]
    if len(found) > 1:
        raise UserError(f"{key}={name}: is the source of {' and '.join(found)}: give one of these names")
    return found[0] if found else None


def _same_source(one: str, other: str) -> bool:
    folders = expanded(one), expanded(other)
    if folders[0].is_dir() and folders[1].is_dir():
        return folders[0].samefile(folders[1])
    return one.casefold() == other.casefold()  # as the hub reads its names


def _as_long_as_it_takes(lm: LM) -> LM:
    lm.weights_identity()  # has better words than transformers for what is no model
    positions: int | None = getattr(load_config(lm), "max_position_embeddings", None)
    longest = LM.max_length if positions is None else min(positions, LONGEST)
    return dataclasses.replace(lm, max_length=longest, token_budget=max(LM.token_budget, 2 * longest))


def _as_lm(built: object) -> LM:
    assert isinstance(built, LM)
    return built


def embedder_named(name: str, key: str) -> Encoder:
    """A configured text encoder by its name or source, else a folder or hub id. Raises UserError that blames `key`."""
    configured = _configured("embedder", name, key)
    if configured is not None:
        return _as_encoder(build(key, settings_of("embedder", configured)))
    if expanded(name).is_dir():
        return Encoder(name=expanded(name).resolve().name, source=name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return Encoder(name=name.rsplit("/", 1)[-1], source=name)
    raise UserError(f"{key}={name}: no configured encoder, no folder and no hub id: {nearest(name, names('embedder'))}")


def _as_encoder(built: object) -> Encoder:
    assert isinstance(built, Encoder)
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
    if not isinstance(built, ScoreSelector | SetSelector):
        raise UserError(f"{key}={name}: {data['_target_']} is no selector: it must have score or choose, and all else")
    before, after = identity(default), identity(built)
    changed = ", ".join(_changed(before, after))
    return built, f"{name}({changed})" if changed else name


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """`field=value` for what differs, in the order of the fields; of components inside, what differs in them."""
    for field, value in after.items():
        old = before.get(field)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            yield from _changed(old, value, f"{prefix}{field}.")
        elif value != old:
            yield f"{prefix}{field}={_short(value)}"


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return str(value["class"]).rpartition(".")[2]
    return str(value).replace(" ", "")


def build_run(job: Job) -> Run:
    """The run that a composed configuration describes, all objects built and validated. Raises UserError."""
    config = job.config
    name = str(job.choices["selector"])
    for other, section in (config[OPEN_SECTION] or {}).items():
        if other not in names("selector"):
            raise UserError(f"{OPEN_SECTION}.{other}: no such selector: {nearest(other, names('selector'))}")
        selector_named(other, section or {}, f"{OPEN_SECTION}.{other}")
    settings = {field: value for field, value in config["selector"].items() if field != "_target_"}
    special = (config[OPEN_SECTION] or {}).get(name) or {}
    # What the command line says of `selector.field` itself goes before the section for several.
    said = {override.split("=")[0].lstrip("+") for override in job.overrides}
    settings |= {field: value for field, value in special.items() if f"selector.{field}" not in said}
    for group in ("model", "embedder"):
        if f"{group}.source" in said and f"{group}.name" not in said:
            raise UserError(f"{group}.source: give {group}.name=... too: tables would say {config[group]['name']}")
    selector, label = selector_named(name, settings)
    model = _as_lm(build("model", config["model"]))
    dataset = build("dataset", config["dataset"])
    scorer = _beside(model, config["scorer_model"], "scorer_model")
    return Run(
        dataset=dataset,
        model=model,
        scorer=scorer,
        embedder=_as_encoder(build("embedder", config["embedder"])),
        selector=selector,
        selector_name=name,
        selector_label=label,
        budget=parse_budget(config["budget"]),
        seed=int(config["seed"]),
        split_seed=int(config["split_seed"]),
        train=build("train", config["train"]),
        evaluation=build("eval", config["eval"]),
        plant=build("plant", config["plant"]) if config.get("plant") else None,
        writer=_writer(config, model, dataset.task),
        perplexity=_perplexity_model(config, scorer),
        diversity=config["diversity"],
        record_samples=config["record_samples"],
        select_only=config["select_only"],
        experiment=config["experiment_name"],
    )


def _writer(config: Mapping[str, Any], model: LM, task: Task) -> Writer | None:
    """Who writes the pool's responses; None: nobody. Raises UserError where noise is to be planted into it too."""
    if not config.get("synthesise"):
        return None
    if config.get("plant"):
        raise UserError("plant: goes with a pool as it was read, not with synthesise: leave one of the two out")
    settings = build("synthesise", config["synthesise"])
    lm = _beside(model, settings.model, "synthesise.model")
    return Writer(lm=lm, task=task, max_new_tokens=settings.max_new_tokens or task.max_new_tokens)


def _perplexity_model(config: Mapping[str, Any], scorer: LM) -> LM | None:
    """Under which the chosen rows' perplexity is reported; None: it is not."""
    if not config["perplexity"]:
        if config["perplexity_model"] is not None:
            raise UserError("perplexity_model: goes with perplexity=true: add it")
        return None
    return _beside(scorer, config["perplexity_model"], "perplexity_model")


def _beside(model: LM, name: str | None, key: str) -> LM:
    """The model `name`; what its own configuration leaves open about where it runs is as for `model`, which is taken
    where no name is given."""
    if name is None:
        return model
    named = model_named(str(name), key)
    return dataclasses.replace(
        named,
        device=model.device if named.device == "auto" else named.device,
        dtype=model.dtype if named.dtype == "auto" else named.dtype,
    )
