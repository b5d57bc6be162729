"""Causal tracing: the subject's embeddings are drowned in noise, and one state at a time is restored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit import metrics
from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import Site
from circuitkit.model.tokens import PromptError, Prompts, Tokens
from circuitkit.pairs import AlignedPairs, Answers, PairError, Pairs
from circuitkit.patching.cells import Cells
from circuitkit.results import Baseline, Result
from circuitkit.run.interventions import Intervention, add, replace
from circuitkit.run.resume import whole_runs_only
from circuitkit.spans import Span
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Subject = str | Span | Sequence[str] | Iterable[int]
_EMBED = Site("embed")


def trace(
    model: Model,
    prompts: Prompts | Pairs,
    answers: Answers | None = None,
    *,
    subject: Subject,
    over: Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"] = "resid_post",
    window: int = 1,
    sigma: float = 3.0,
    seeds: Iterable[int] = range(10),
    metric: Metric | Compute | str = metrics.probability,
    layers: Iterable[int] | None = None,
    positions: Iterable[int] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Trace where a model keeps what it knows of a subject: noise on its embeddings, one clean state restored.

    Args:
        model: the model.
        prompts: the prompts; or pairs, whose clean prompts and answers are used.
        answers: what each prompt calls for; the model's own most likely next token if None.
        subject: the tokens that get the noise: a span; their text, one for all prompts or one for each (its first
            occurrence); or their positions in every prompt, negative ones counted from the end.
        over: the kind of state that is restored.
        window: how many layers are restored together, named by the lowest: one after another among those that are
            traced. The paper restores one layer of states, and ten of `attn_out` or `mlp_out`.
        sigma: the noise's standard deviation, in units of the standard deviation of these prompts' embeddings, over
            all real tokens and dimensions.
        seeds: the draws of the noise, over which each example's values are averaged.
        metric: what is measured.
        layers, positions: which states are restored, layers in any order, each once; all if None, where the prompts
            have one length.
        seed: of the statistics.
        progress: show a bar over the cells.

    Returns:
        A result with the axes `("layer", "position")`: what the noised run gives with a state restored. The baseline's
        corrupt values are the noised run's.

    Raises:
        SiteError: a layer is not there or is named twice, or there are fewer than a window has.
        SpanError: a prompt lacks its subject, or the subject is text and the model has no tokenizer.
        PromptError: there are not as many subjects as prompts; no noise or no draw is asked for.
        PairError: prompts of different lengths have no common positions.

    Source: Meng et al. 2022, arXiv 2202.05262, section 2.1 (noise of three standard deviations).

    >>> model = ck.load("deductor-130k")
    >>> traced = trace(model, ["Alex is a wumpus. Alex is a"], subject="wumpus", seeds=[0, 1], progress=False)
    >>> traced.axes, len(traced.values)
    (('layer', 'position'), 3)
    """
    seeds = tuple(seeds)
    if sigma <= 0 or not seeds:
        raise PromptError(f"tracing needs noise and a draw of it, got sigma={sigma} and {len(seeds)} seeds")
    aligned = _aligned(model, prompts, answers)
    cells = Cells.over(model, aligned, over, layers, positions, window)
    study = Study.of(model, aligned.clean, aligned.targets, metric, "denoise", groups=aligned.groups)
    cells.require_positions_of_prompts(study)
    drowned = _subject(model, prompts, subject, study.tokens)
    firsts = [Site("resid_pre", layer=sites[0].layer) for sites in cells.sites]
    kept = model.run(study.tokens, capture=[_EMBED, *cells.places], logits_at=-1).cache
    restored = [[replace(site, kept[site]) for site in sites] for sites in cells.sites]
    width = sigma * kept[_EMBED][study.tokens.mask].float().std()
    values, noised = [], []
    for draw in seeds:
        noise = add(_EMBED, _noise(kept[_EMBED], drowned, draw) * width)
        corrupt = _corrupted(model, study.tokens, noise, firsts)
        noised.append(study.measured([[noise]], "", progress=False)[0])
        patched = [[*before, *states] for before, states in zip(corrupt, restored, strict=True)]
        values.append(study.measured(patched, f"tracing {over}", progress))
    return study.result(
        cells.filled(torch.stack(values).mean(0)),
        cells.axes,
        f"Tracing {over} (noise of {sigma:g} standard deviations)",
        seed,
        coordinates=cells.coordinates,
        labels=cells.labels,
        baseline=Baseline(study.baseline.clean, torch.stack(noised).mean(0)),
        study="patching.trace",
        over=over,
        window=window,
        sigma=sigma,
        noise_deviation=float(width),
        noise_seeds=list(seeds),
    )


def _aligned(model: Model, prompts: Prompts | Pairs, answers: Answers | None) -> AlignedPairs:
    if isinstance(prompts, Pairs):
        if answers is not None:
            raise PairError("pairs have answers of their own: give none beside them")
        return prompts.on(model)
    rows: Any = [prompts] if isinstance(prompts, str) else prompts
    if answers is None:
        answers = model.run(rows, logits_at=-1).logits.argmax(-1)
    return Pairs(rows, rows, [answers] if isinstance(answers, str) else answers).on(model)


def _corrupted(model: Model, tokens: Tokens, noise: Intervention, firsts: Sequence[Site]) -> list[list[Intervention]]:
    """What makes each cell's run a noised one.

    Everything that the noise does up to a layer is in the stream that enters it. So the noised stream is put there,
    and no cell runs the layers below the first that it restores, unless later layers read more than the stream.
    """
    if whole_runs_only(model) is not None:
        return [[noise] for _ in firsts]
    kept = model.run(tokens, [noise], capture=list(dict.fromkeys(firsts)), logits_at=-1).cache
    return [[replace(site, kept[site])] for site in firsts]


def _noise(
    embedded: Float[Tensor, "batch column d_model"], drowned: Bool[Tensor, "batch column"], seed: int
) -> Float[Tensor, "batch column d_model"]:
    """Standard normal noise on the subject, none elsewhere; the same on every device."""
    noise = torch.randn(embedded.shape, generator=torch.Generator().manual_seed(seed))
    return noise.to(embedded) * drowned[..., None].to(embedded)


def _subject(model: Model, prompts: Prompts | Pairs, subject: Subject, tokens: Tokens) -> Bool[Tensor, "batch column"]:
    """Which tokens of the run are the subject's."""
    texts: Any = prompts.clean if isinstance(prompts, Pairs) else prompts
    rows = [texts] if isinstance(texts, str) else texts
    spans = _spans(subject)
    if len(spans) == 1:
        places = spans[0].positions(model, rows)
    elif len(spans) == len(rows):
        places = [span.positions(model, rows[row : row + 1])[0] for row, span in enumerate(spans)]
    else:
        raise PromptError(f"{len(spans)} subjects for {len(rows)} prompts: give one for all, or one for each")
    chosen = [torch.isin(here.cpu(), torch.tensor(its)) for here, its in zip(tokens.positions, places, strict=True)]
    return torch.stack(chosen).to(tokens.ids.device)


def _spans(subject: Subject) -> list[Span]:
    """The span that the subject is in every prompt, or one for each prompt."""
    if isinstance(subject, str | Span):
        return [subject if isinstance(subject, Span) else Span.of_text(subject)]
    named = list(subject)
    if not named:
        raise PromptError("no subject is named")
    texts, places = [each for each in named if isinstance(each, str)], [each for each in named if isinstance(each, int)]
    if len(texts) == len(named):
        return [Span.of_text(text) for text in texts]
    if len(places) == len(named):
        return [Span.at(*places)]
    raise PromptError("a subject is named by its text, by positions or as a span, and by one of them alone")
