"""The scoring engine as an lm-eval model: what is scored are exactly the ids that selection and tuning see.

lm-eval's own HFLM tokenises prompt and response as one text, may add a second BOS, has no way to score the end of a
turn, and applies a model's default repetition penalty. Import this module late: it pulls in lm-eval.
"""

from typing import TYPE_CHECKING

from lm_eval.api.model import LM as LMEvalModel  # noqa: N811

from dwbench.models.chat import Pair, cut_response
from dwbench.representations.generation import Answer
from dwbench.representations.scorer import Scorer

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class Engine(LMEvalModel):  # type: ignore[misc]
    """Answers lm-eval's requests; `answers` keeps what was generated, in the order of the requests."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self._scorer = scorer
        self.answers: list[Answer] = []

    def pair(self, prompt: str, response: str) -> Pair:
        """Ids of a rendered prompt and of a response with its end of turn, cut to the longest sequence."""
        chat = self._scorer.chat
        context = chat.ids(prompt)
        whole = (*chat.ids(response), chat.end_of_turn)
        return Pair(context, cut_response(len(context), whole, chat.max_length))

    def loglikelihood(self, requests: "list[Instance]") -> list[tuple[float, bool]]:
        """Log-likelihood of each response in nats. Whether greedy decoding would give it is not worked out: False."""
        pairs = [self.pair(*request.args) for request in requests]
        return [(-float(total), False) for total in self._scorer.response_nll(pairs, "test loss").total]

    def generate_until(self, requests: "list[Instance]") -> list[str]:
        """Greedy answers up to the end of turn; all requests share one `max_gen_toks`."""
        prompts = [self._scorer.chat.ids(request.args[0]) for request in requests]
        (cap,) = {request.args[1]["max_gen_toks"] for request in requests}
        self.answers = self._scorer.answers(prompts, cap, what="test answers").answers
        return [answer.text for answer in self.answers]

    def loglikelihood_rolling(self, requests: "list[Instance]") -> list[float]:
        raise NotImplementedError("no task of dwbench asks for it")
