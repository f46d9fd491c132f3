"""Every version number that keys are made of, in one place: none of them changes unseen.

A version is raised by hand where code changes what comes out; then results of old are computed anew. Whoever raises one
writes it down here, and in CHANGELOG.md which results it changes. Whoever sees a change of results without one here has
forgotten it.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import dwbench

PACKAGE = Path(dwbench.__file__).parent

STAGES = {
    "data/generated.VERSION": 1,
    "describe.PERPLEXITY_VERSION": 1,
    "describe.VERSION": 1,
    "models/embedded.CONVERSION_VERSION": 1,
    "representations/probes.VERSION": 1,
    "run.EVALUATE_VERSION": 1,
    "run.SHAPE_VERSION": 1,
    "selectors/attention_influence.MASKED_VERSION": 2,
    "selectors/attention_influence.RETRIEVAL_VERSION": 1,
    "selectors/base.SCORE_VERSION": 1,
    "selectors/cluster_ucb.VERSION": 1,
    "selectors/clusters.VERSION": 1,
    "selectors/context.EMBED_VERSION": 1,
    "selectors/data_whisperer.PLAN_VERSION": 1,
    "selectors/data_whisperer.PROMPTS_VERSION": 3,
    "selectors/deita.VERSION": 1,
    "selectors/diverse_evol.VERSION": 1,
    "selectors/dynamic.VERSION": 1,
    "selectors/dynamics.ERRORS_VERSION": 1,
    "selectors/dynamics.NORMS_VERSION": 1,
    "selectors/gist.VERSION": 1,
    "selectors/gradients.VERSION": 2,
    "selectors/losses.VERSION": 2,
    "selectors/lp.VERSION": 1,
    "selectors/miwv.VERSION": 2,
    "selectors/novelselect.DENSITY_VERSION": 1,
    "selectors/nuggets.ADVANTAGE_VERSION": 2,
    "selectors/nuggets.ALONE_VERSION": 1,
    "selectors/nuggets.TASKS_VERSION": 2,
    "selectors/perplexity.TEXT_VERSION": 2,
    "selectors/rds_plus.VERSION": 1,
    "selectors/s2l.VERSION": 1,
    "selectors/selectit.VERSION": 1,
    "selectors/staff.VERSION": 1,
    "selectors/tags.VERSION": 2,
    "selectors/uncertainty.VERSION": 2,
    "synthesis.VERSION": 1,
    "training/sft.TRAIN_VERSION": 1,
}
"""Module constants, by file."""

SELECTORS = {
    "selectors/attention_influence.AttentionInfluence": 2,
    "selectors/bounds.Full": 1,
    "selectors/bounds.ZeroShot": 1,
    "selectors/ccs.CCS": 1,
    "selectors/cluster_ucb.ClusterUCB": 1,
    "selectors/data_whisperer.DataWhisperer": 3,
    "selectors/deita.Deita": 1,
    "selectors/diverse_evol.DiverseEvol": 1,
    "selectors/dsir.DSIR": 1,
    "selectors/dynamic.Dynamic": 1,
    "selectors/el2n.EL2N": 1,
    "selectors/facility_location.FacilityLocation": 1,
    "selectors/g2is.G2IS": 1,
    "selectors/gist.GIST": 1,
    "selectors/grand.GraNd": 1,
    "selectors/ifd.IFD": 1,
    "selectors/k_center.KCenter": 1,
    "selectors/kmeans.KMeans": 1,
    "selectors/less.LESS": 1,
    "selectors/longest_response.LongestResponse": 1,
    "selectors/lp.LP": 2,
    "selectors/mig.MIG": 2,
    "selectors/miwv.MIWV": 1,
    "selectors/novelselect.NovelSelect": 2,
    "selectors/nuggets.Nuggets": 3,
    "selectors/perplexity.Perplexity": 2,
    "selectors/qdit.QDIT": 2,
    "selectors/random.Random": 1,
    "selectors/random_stratified.RandomStratified": 1,
    "selectors/rds_plus.RDSPlus": 1,
    "selectors/repr_filter.ReprFilter": 1,
    "selectors/s2l.S2L": 1,
    "selectors/selectit.SelectIT": 1,
    "selectors/staff.STAFF": 1,
    "selectors/superfiltering.Superfiltering": 2,
    "selectors/superfiltering_d.SuperfilteringD": 2,
    "selectors/tsds.TSDS": 1,
    "selectors/uncertainty.Uncertainty": 2,
}
"""The `version` of each class, by file."""


def constants(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, int):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from ((name, node.value.value) for name in names if name.endswith("VERSION"))


def versions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for line in (line for line in node.body if isinstance(line, ast.AnnAssign)):
            if ast.unparse(line.target) == "version" and isinstance(line.value, ast.Constant):
                yield node.name, int(line.value.value)


def found_by(search: Callable[[ast.Module], Iterator[tuple[str, int]]]) -> dict[str, int]:
    return {
        f"{path.relative_to(PACKAGE).with_suffix('').as_posix()}.{name}": number
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, number in search(ast.parse(path.read_text(encoding="utf-8")))
    }


def test_of_stages() -> None:
    assert found_by(constants) == STAGES


def test_of_selectors() -> None:
    assert found_by(versions) == SELECTORS


def test_the_search_finds_what_is_there() -> None:
    tree = ast.parse(
        "A_VERSION = 3\nSIZE = 2\nclass One:\n    version: ClassVar[int] = 4\n    paper: ClassVar[str] = ''\n"
    )
    assert dict(constants(tree)) == {"A_VERSION": 3}
    assert dict(versions(tree)) == {"One": 4}
