"""How the embedded model does on the embedded data set: `python experiments/embedded_data/measure.py`.

Prints few-shot scores (Data Whisperer's prompt: demonstrations from the pool, several queries in one answer)
for queries from the pool and from the test split, zero-shot scores, tokens a row, and with --tune the
zero-shot score after a small LoRA tuning. Greedy decoding, fp32, 2 threads; 3 minutes, 5 with --tune 32.
"""

import argparse
import random
import re
import statistics
import time

import torch
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForCausalLM, AutoTokenizer

from dwbench.data.embedded import labelled
from dwbench.models.embedded import smollm2_folder

SYSTEM = "You write short headlines for a town newspaper. Write one headline of at most ten words for the notice."
ICL_SYSTEM = (
    "You write short headlines for a town newspaper. "
    "Write one headline of at most ten words for each notice, in the style of the examples."
)
ZERO_SHOT = "Notice: {input}\nHeadline:"
N_DEMOS = 5

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--prompts", type=int, default=24, help="few-shot prompts per setting, and zero-shot queries")
parser.add_argument("--queries", type=int, nargs="+", default=[2, 3], help="n_q, one or several")
parser.add_argument(
    "--tune",
    type=int,
    default=0,
    metavar="ROWS",
    help="also tune on so many rows: random, all clean, none clean",
)
options = parser.parse_args()

torch.set_num_threads(2)
folder = smollm2_folder()
model = AutoModelForCausalLM.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
scorer = RougeScorer(["rougeL"], use_stemmer=True)
pool = labelled(400, seed=1)
test = labelled(200, seed=2, clean=True)


def rouge(reference: str, answer: str) -> float:
    return float(scorer.score(reference, answer)["rougeL"].fmeasure) if answer else 0.0


def render(system: str, user: str) -> str:
    turns = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def answers(prompts: list[str], max_new_tokens: int) -> list[str]:
    texts = []
    for start in range(0, len(prompts), 8):
        batch = tokenizer(prompts[start : start + 8], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            ids = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False)
        texts += tokenizer.batch_decode(ids[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
    return texts


def parse(text: str, count: int) -> list[str]:
    """The line behind `Headline i:` for every query i, the first if there are several; '' where missing."""
    found = [""] * count
    for number, line in re.findall(r"^\s*Headline (\d+): *(\S.*)$", text, re.MULTILINE):
        if 1 <= int(number) <= count:
            found[int(number) - 1] = found[int(number) - 1] or line.strip()
    return found


def few_shot(n_q: int, from_test: bool) -> None:
    rng = random.Random(3)
    prompts, golds, clean_demos = [], [], []
    for _ in range(options.prompts):
        drawn = rng.sample(pool, N_DEMOS + n_q)
        demos = drawn[:N_DEMOS]
        queries = [row for _, row in (rng.sample(test, n_q) if from_test else drawn[N_DEMOS:])]
        user = (
            "Here are some examples.\n\n"
            + "".join(f"Notice: {row['input']}\nHeadline: {row['response']}\n\n" for _, row in demos)
            + "Now, do the same for these, one line each.\n\n"
            + "".join(f"Notice {i}: {row['input']}\n" for i, row in enumerate(queries, 1))
            + "\nAnswer in this form:\n"
            + "\n".join(f"Headline {i}: <...>" for i in range(1, n_q + 1))
        )
        prompts.append(render(ICL_SYSTEM, user))
        golds.append([row["response"] for row in queries])
        clean_demos.append(sum(kind == "clean" for kind, _ in demos))
    started = time.perf_counter()
    parsed = [parse(text, n_q) for text in answers(prompts, 28 * n_q)]
    seconds = time.perf_counter() - started
    scores = [statistics.mean(map(rouge, gold, lines)) for gold, lines in zip(golds, parsed, strict=True)]
    tokens = statistics.mean(len(tokenizer(prompt, add_special_tokens=False).input_ids) for prompt in prompts)
    q1, q2, q3 = statistics.quantiles(scores, n=4)
    print(
        f"n_d {N_DEMOS}, n_q {n_q}, queries of the {'test' if from_test else 'pool'}, {len(scores)} prompts: "
        f"mean {statistics.mean(scores):.3f} sd {statistics.stdev(scores):.3f} min {min(scores):.2f} "
        f"quartiles {q1:.2f} {q2:.2f} {q3:.2f} max {max(scores):.2f}; "
        f"parsed {sum(bool(line) for lines in parsed for line in lines) / len(scores) / n_q:.0%}; "
        f"correlation with clean demonstrations {statistics.correlation(clean_demos, scores):.2f}; "
        f"{tokens:.0f} prompt tokens, {seconds:.0f} s",
        flush=True,
    )


def zero_shot(name: str) -> None:
    rows = [row for _, row in test[: options.prompts]]
    texts = answers([render(SYSTEM, ZERO_SHOT.format(input=row["input"])) for row in rows], 28)
    scores = [rouge(row["response"], text.strip()) for row, text in zip(rows, texts, strict=True)]
    print(f"zero-shot, {name}, {len(scores)} test rows: mean {statistics.mean(scores):.3f}", flush=True)
    for row, text in list(zip(rows, texts, strict=True))[:2]:
        print(f"   {text.strip()!r} for {row['response']!r}")


def tune(name: str, rows: list[dict[str, str]]) -> None:
    """LoRA (r 16, all linear layers), 2 epochs, batch 4, learning rate 5e-4; then zero-shot; then undone."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    optimiser = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=5e-4)
    started = time.perf_counter()
    for _ in range(2):
        for start in range(0, len(rows), 4):
            for row in rows[start : start + 4]:
                text = render(SYSTEM, ZERO_SHOT.format(input=row["input"]))
                prompt = tokenizer(text, add_special_tokens=False).input_ids
                response = tokenizer(row["response"] + "<|im_end|>", add_special_tokens=False).input_ids
                ids = torch.tensor([prompt + response])
                labels = torch.tensor([[-100] * len(prompt) + response])
                (tuned(input_ids=ids, labels=labels).loss / 4).backward()
            optimiser.step()
            optimiser.zero_grad()
    tuned.eval()
    print(f"tuned on {len(rows)} rows in {time.perf_counter() - started:.0f} s")
    zero_shot(f"tuned on {len(rows)} {name} rows")
    tuned.unload()


lengths = [len(tokenizer(row["input"] + row["response"], add_special_tokens=False).input_ids) for _, row in pool]
print(f"tokens a row: min {min(lengths)} mean {statistics.mean(lengths):.1f} max {max(lengths)}")
zero_shot("untuned")
for n_q in options.queries:
    few_shot(n_q, from_test=False)
    few_shot(n_q, from_test=True)
if options.tune:
    tune("random pool", [row for _, row in pool][: options.tune])
    tune("clean", [row for kind, row in pool if kind == "clean"][: options.tune])
    tune("sloppy and chatty", [row for kind, row in pool if kind != "clean"][: options.tune])
