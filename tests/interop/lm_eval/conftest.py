"""What several tests look at."""

import pytest

from circuitkit.interop.lm_eval import HarnessEvaluation, evaluate
from interop.lm_eval.toys import GPQA, aime, chatty, gpqa


@pytest.fixture(scope="session")
def found() -> HarnessEvaluation:
    model = chatty()
    problems = aime(model)
    data = {"aime24": problems, "aime25": [{"problem": p["Problem"], "answer": p["Answer"]} for p in problems[::-1]]}
    return evaluate(model, data={**data, GPQA: gpqa()}, seeds=4, max_gen_toks=3, batch_size=3, progress=False)
