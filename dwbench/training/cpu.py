"""SFTTrainer with a cheaper loss on CPUs: half the time a step for short responses behind long prompts.

TRL applies the LM head to every position where it has no Triton, prompts included. Here it is applied to the rows that
predict a response token. The loss is the same. Import it late: it pulls in TRL.
"""

from typing import Any

import torch
from trl import SFTTrainer

from dwbench.training.sft import IGNORED


class CPUTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer in all but the loss."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Summed NLL of the response tokens over `num_items_in_batch` (those of all micro batches of the step)."""
        assert not return_outputs, "only an evaluation asks for outputs, and there is none"
        targets = inputs["labels"][:, 1:]
        wanted = targets != IGNORED

        def pick(module: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            return (args[0][:, :-1][wanted],)

        # In front of the head, so that what a model does behind it (scaling, soft caps) is done.
        hook = model.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        finally:
            hook.remove()
        nll = torch.nn.functional.cross_entropy(output.logits.float(), targets[wanted], reduction="sum")
        return nll / (wanted.sum() if num_items_in_batch is None else num_items_in_batch)
