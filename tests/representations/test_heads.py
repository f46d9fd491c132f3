"""Masked heads and retrieval heads: against explicit attention matrices, and in a model whose heads are known."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scoring import with_scorer

from dwbench.errors import UserError
from dwbench.models.chat import Pair
from dwbench.models.spec import LM
from dwbench.representations.heads import (
    Head,
    Uniform,
    retrieval_scores,
    retrieved,
    top_heads,
    uniform_attention,
    uniform_heads,
)
from dwbench.representations.probes import Probe, retrieval_probes
from dwbench.selectors.models import LoadedModels

HEADS = ((0, 1), (0, 2), (1, 3))
WINDOW = 6
SIZES = {
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZES))


def qwen2() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**{**SIZES, "num_key_value_heads": 1}))


def mistral() -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=WINDOW))


def gemma3() -> Any:
    """One layer with a sliding window, one without."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    layers = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=WINDOW, layer_types=layers))


@pytest.fixture(params=[llama, qwen2, mistral, gemma3])
def model(request: pytest.FixtureRequest) -> Any:
    import torch

    make: Callable[[], Any] = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        made = make()
    made.set_attn_implementation("sdpa")
    return made.eval()


def texts() -> list[list[int]]:
    generator = np.random.default_rng(5)
    return [generator.integers(3, 80, length).tolist() for length in (21, 9, 2, 14)]


def logits(model: Any, rows: Sequence[list[int]], left: bool = False) -> list[Any]:
    """Logits of each row, its padding cut off."""
    import torch

    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    spans = [slice(longest - len(row), longest) if left else slice(0, len(row)) for row in rows]
    for number, (row, span) in enumerate(zip(rows, spans, strict=True)):
        ids[number, span] = torch.tensor(row)
        mask[number, span] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return [found[number, span] for number, span in enumerate(spans)]


def explicit_logits(model: Any, row: list[int], heads: Sequence[Head], uniform: Uniform) -> Any:
    """From whole attention matrices of one unpadded row, those of masked heads written down."""
    import torch
    from transformers import AttentionInterface

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        n, group = query.shape[2], query.shape[1] // key.shape[1]
        keys, values = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        row, column = torch.arange(n)[:, None], torch.arange(n)
        visible = (column <= row) & (row - column < (options.get("sliding_window") or n))
        scores = (query @ keys.mT * options["scaling"]).masked_fill(~visible, float("-inf"))
        weights = scores.softmax(-1)
        for layer, head in heads:
            if layer == module.layer_idx:
                even = visible.float()
                weights[:, head] = even / (even.sum(-1, keepdim=True) if uniform == "visible" else n)
        return (weights @ values).transpose(1, 2), weights

    AttentionInterface.register("explicit", attend)
    model.set_attn_implementation("explicit")
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
    model.set_attn_implementation("sdpa")
    return found


@pytest.mark.parametrize("uniform", ["visible", "literal"])
def test_masking_equals_the_written_down_matrix(uniform: Uniform, model: Any) -> None:
    """Whatever the architecture, the window and the padding."""
    rows = texts()
    expected = [explicit_logits(model, row, HEADS, uniform) for row in rows]
    plain = logits(model, rows[:1])
    with uniform_heads(model, HEADS, uniform):
        found = {
            "alone": [logits(model, [row])[0] for row in rows],
            "right": logits(model, rows),
            "left": logits(model, rows, left=True),
        }
    for way, of_rows in found.items():
        for row, want in zip(of_rows, expected, strict=True):
            np.testing.assert_allclose(row, want, atol=1e-5, rtol=1e-5, err_msg=way)
    assert float((plain[0] - expected[0]).abs().max()) > 0.01


def test_masking_nothing_changes_no_bit(model: Any) -> None:
    import torch

    before = logits(model, texts())
    with uniform_heads(model, ()):
        found = logits(model, texts())
    assert all(torch.equal(one, other) for one, other in zip(before, found, strict=True))


def test_attention_is_restored(model: Any) -> None:
    with pytest.raises(RuntimeError, match="stop"), uniform_heads(model, HEADS):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("head", [(2, 0), (0, 4), (-1, 0)])
def test_a_head_that_is_not_there(head: Head) -> None:
    with pytest.raises(ValueError, match="the model has none"), uniform_heads(llama(), [head]):
        pass


def test_uniform_attention_by_hand() -> None:
    """The case of spec 7.3; then padded on either side, and with a window of 2."""
    import torch

    def values(*numbers: float) -> Any:
        return torch.tensor(numbers).reshape(1, 1, -1, 1)

    def of(value: Any, mask: Any, uniform: Uniform) -> list[float]:
        return uniform_attention(value, mask, uniform).flatten().tolist()

    literal = pytest.approx([1 / 3, 4 / 3, 3])
    assert of(values(1, 3, 5), None, "visible") == [1, 2, 3]
    assert of(values(1, 3, 5), None, "literal") == literal
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    right = (causal & torch.tensor([True, True, True, False]))[None, None]
    assert of(values(1, 3, 5, 70), right, "visible")[:3] == [1, 2, 3]
    assert of(values(1, 3, 5, 70), right, "literal")[:3] == literal
    left = (causal & torch.tensor([False, True, True, True]))[None, None]
    assert of(values(70, 1, 3, 5), left, "visible")[1:] == [1, 2, 3]
    assert of(values(70, 1, 3, 5), left, "literal")[1:] == literal
    window = (causal[:3, :3] & torch.ones(3, 3, dtype=torch.bool).triu(-1))[None, None]
    assert of(values(1, 3, 5), window, "visible") == [1, 2, 4]
    assert of(values(1, 3, 5), window, "literal") == pytest.approx([1 / 3, 4 / 3, 8 / 3])


PROBE = Probe(context=(9, 1, 2, 3, 8, 1), answer=(1, 2, 3), value=(1, 4))
"""Fed as 9 1 2 3 8 1 1 2; rows 5, 6 and 7 predict 1, 2 and 3, which stand in columns 1, 2 and 3."""


@pytest.mark.parametrize(
    ("attended", "share"),
    [
        ((1, 2, 3), 1),
        ((1, 2, 2), 2 / 3),  # in the value, but another token
        ((5, 2, 3), 2 / 3),  # the right token outside of the value
        ((2, 1, 1), 0),
        ((1, 3, 0), 1 / 3),
    ],
)
def test_share_of_retrieved_tokens(attended: tuple[int, ...], share: float) -> None:
    """Three answer tokens; right on two: 2/3. The other head (of two, that share their keys) always looks at 0."""
    import torch

    key = torch.eye(8)
    query = torch.zeros(2, 8, 8)
    for row, column in zip((5, 6, 7), attended, strict=True):
        query[0, row, column] = 1
    query[1, :, 0] = 1
    np.testing.assert_allclose(retrieved(query, key[None], None, PROBE), [share, 0])


def test_columns_that_a_row_does_not_see_are_not_attended() -> None:
    import torch

    query = torch.zeros(1, 8, 8)
    query[0, 5, [1, 7]] = torch.tensor([1.0, 2.0])  # column 7 is in the future of row 5
    query[0, 6, [2, 1]] = torch.tensor([1.0, 2.0])
    query[0, 7, 3] = 1
    assert float(retrieved(query, torch.eye(8)[None], None, PROBE)) == pytest.approx(2 / 3)
    window = torch.ones(8, 8, dtype=torch.bool).tril().triu(-4)  # hides column 1 from row 6, and shows it to row 5
    assert float(retrieved(query, torch.eye(8)[None], window, PROBE)) == 1


def test_retrieval_equals_the_full_map(model: Any) -> None:
    """The probe repeats its value, so that heads of a random model hit now and then."""
    import torch

    value = [5, 6, 5, 7, 7]
    probe = Probe((3, *value, 4, 3), tuple(value), (1, 6))
    found = retrieval_scores(model, probe)
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        maps = model(input_ids=torch.tensor([probe.ids]), output_attentions=True).attentions
    expected = np.zeros((2, 4))
    for layer in range(2):
        for head in range(4):
            for number, token in enumerate(value):
                most = int(maps[layer][0, head, 7 + number].argmax())
                expected[layer, head] += (1 <= most < 6 and probe.ids[most] == token) / 5
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert expected.sum() > 0


N = 21
"""Tokens of the copying model."""


def copying_model() -> Any:
    """Two layers of two heads. Head (0, 0) writes down each token's predecessor; head (1, 1) attends to what followed
    the current token before and predicts it; (1, 0) attends one token back; (0, 1) to all alike. The last two write
    nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = 64
    config = LlamaConfig(
        vocab_size=N,
        hidden_size=1 + 3 * N,
        intermediate_size=4,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=size,
        rope_parameters={"rope_type": "default", "rope_theta": 1e8},
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config).eval()
    # A state: a constant 1, the token, the token before it, the token to come; one dimension for each of N tokens.
    token, before, coming = (torch.arange(1 + part * N, 1 + (part + 1) * N) for part in range(3))
    each = torch.arange(N)
    turn = 1e8 ** (-torch.arange(8) / (size / 2))  # radians a position of the eight fastest pairs of dimensions
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            if weight.dim() == 2:
                weight.zero_()
        embedding = model.model.embed_tokens.weight.zero_()
        embedding[:, 0] = 1
        embedding[each, token] = 1
        for attention in (first, second):  # head 0: most at a distance of 1
            attention.k_proj.weight[:8, 0] = 3
            attention.q_proj.weight[:8, 0] = 3 * turn.cos()
            attention.q_proj.weight[size // 2 : size // 2 + 8, 0] = -3 * turn.sin()
        first.v_proj.weight[each, token] = 1
        first.o_proj.weight[before, each] = 0.2
        slow = size + 11 + each  # dimensions of head 1 that hardly turn
        second.q_proj.weight[slow, token] = 4
        second.k_proj.weight[slow, before] = 4
        second.v_proj.weight[size + each, token] = 1
        second.o_proj.weight[coming, size + each] = 1
        model.lm_head.weight.zero_()[each, coming] = 5
    return model


TOY = Probe(context=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 5), answer=(6, 7, 8), value=(6, 9))


def test_the_copy_head_of_a_copying_model_ranks_first() -> None:
    scores = retrieval_scores(copying_model(), TOY)
    np.testing.assert_array_equal(scores, [[0, 0], [0, 1]])
    assert top_heads(scores, 0.05) == ((1, 1),)


def test_a_copying_model_needs_its_copy_head() -> None:
    from dwbench.representations.token_nll import batch_token_nll

    model, pair = copying_model(), Pair(TOY.context, TOY.answer)

    def loss(*heads: Head) -> float:
        with uniform_heads(model, heads):
            return float(batch_token_nll(model, [pair])[0].mean())

    assert loss() < 0.01
    assert loss((0, 1), (1, 0)) == pytest.approx(loss(), abs=1e-6)
    assert loss((1, 1)) > 1


def test_top_heads() -> None:
    scores = np.zeros((4, 10))
    scores[3, 2], scores[1, 7], scores[2, 0], scores[2, 9] = 0.9, 0.4, 0.4, 0.4
    assert top_heads(scores, 0.05) == ((1, 7), (3, 2))
    assert top_heads(scores, 0.075) == ((1, 7), (2, 0), (3, 2))
    assert top_heads(scores, 0.001) == ((3, 2),)
    assert top_heads(scores, 0.15) == ((0, 0), (0, 1), (1, 7), (2, 0), (2, 9), (3, 2))
    assert len(top_heads(np.zeros((16, 20)), 0.05)) == 16


@pytest.mark.parametrize("tokens", [500, 800])
def test_probes(tokens: int, smollm2: LM, models: LoadedModels) -> None:
    chat = models.chat(smollm2)
    probes = retrieval_probes(chat, 6, tokens, 0)
    assert retrieval_probes(chat, 3, tokens, 0) == probes[:3]
    assert not set(retrieval_probes(chat, 6, tokens, 1)) & set(probes)
    assert len(set(probes)) == 6
    for probe in probes:
        start, end = probe.value
        assert probe.context[start:end] == probe.answer
        assert 8 <= len(probe.answer) <= 30
        assert tokens - 60 < len(probe.context) + len(probe.answer) <= tokens
        text = chat.tokenizer.decode(probe.context)
        values = json.loads(text[text.index("{") : text.index("}") + 1])
        queried = text.rindex("question: ") + len("question: ")
        key, answer = text[queried : queried + 32], chat.tokenizer.decode(probe.answer)
        assert values[key] == answer
        assert text.count(answer) == 1  # no example asks for the same
        assert len(set(values.values())) == len(values) >= 4
        asked = text[text.index("}") :].split("question: ")[1:-1]
        assert [values[example[:32]] in example for example in asked] == [True] * 3
        # As the template ends a prompt.
        assert chat.text([("user", "?")]).endswith(text[text.rindex("answer:") + len("answer:") :])


def test_probes_that_do_not_fit(tiny_lm: LM, models: LoadedModels) -> None:
    with pytest.raises(UserError, match=r"selector.probe_tokens=200: .* takes \d+ tokens: give more"):
        retrieval_probes(models.chat(tiny_lm), 1, 200, 0)


def test_detection_is_charged(tiny_lm: LM, models: LoadedModels) -> None:
    probes = retrieval_probes(models.chat(tiny_lm), 3, 600, 0)
    found, cost = with_scorer(models, tiny_lm, lambda scorer: scorer.retrieval_scores(probes))
    assert found.shape == (2, 4)
    assert cost.forward_tokens == sum(len(probe.ids) for probe in probes)
    assert cost.forward_calls == 3
    assert cost.flop > 0


def test_detected_heads_copy(smollm2: LM, models: LoadedModels) -> None:
    """Another probe suffers more from masking them than from masking as many others."""
    chat = models.chat(smollm2)
    others = [Pair(probe.context, probe.answer) for probe in retrieval_probes(chat, 1, 500, 1)]
    probes = retrieval_probes(chat, 2, 500, 0)
    scores, _ = with_scorer(models, smollm2, lambda scorer: scorer.retrieval_scores(probes))
    found = top_heads(scores, 0.05)
    rest = [(int(layer), int(head)) for layer, head in np.argwhere(scores == 0)]
    drawn = [rest[place] for place in np.random.default_rng(0).permutation(len(rest))[: len(found)]]

    def loss(heads: Sequence[Head]) -> float:
        losses, _ = with_scorer(models, smollm2, lambda scorer: scorer.masked_token_nll(others, heads, "visible"))
        return float(np.mean([row.mean() for row in losses]))

    harm = loss(found)
    assert harm > loss(()) + 2
    assert harm > loss(drawn) + 1
