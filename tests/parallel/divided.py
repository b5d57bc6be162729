"""Run by torchrun: a model divided among processes against the same model whole in each, in everything that is claimed.

Writes how far they are apart, a table of numbers and of refusals, as JSON, one file a process.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit.lens import direct_logits, logit_lens
from circuitkit.metrics import Targets, logit_difference
from circuitkit.model import KINDS, LoadError, SiteError, Tokens
from circuitkit.model.devices import weight_of
from circuitkit.run import Intervention
from circuitkit.run.executor import measure

ATTENTION = ("scores", "pattern")
HEADS = ("q", "k", "v", "z", *ATTENTION)


def apart(whole: Tensor, divided: Tensor) -> float:
    """The largest difference, in units of the largest number where that is above 1; infinite between other shapes."""
    if whole.shape != divided.shape:
        return float("inf")
    a, b = whole.cpu().double(), divided.cpu().double()
    return float((a - b).abs().max() / a.abs().max().clamp(min=1.0))


def visible(site: ck.Site, value: Tensor, tokens: Tokens) -> Tensor:
    """A whole site's value at real tokens, and of attention what a query can see."""
    value = value.cpu()
    if site.kind not in ATTENTION:
        return value[tokens.mask]
    seen = tokens.mask[:, None, :, None] & tokens.mask[:, None, None, :]
    # What a window forbids bears the lowest of numbers, beside which no difference would count.
    seen = seen & torch.ones(value.shape[-2:], dtype=torch.bool).tril() & (value > -1e30)
    return value.masked_fill(~seen, 0.0)


def kinds_of(model: ck.Model) -> list[str]:
    return [kind for kind in KINDS if kind == "embed" or model.layers_with(kind)]


def captures(whole: ck.Model, divided: ck.Model, tokens: Tokens) -> dict[str, float]:
    assert kinds_of(whole) == kinds_of(divided), (kinds_of(whole), kinds_of(divided))
    a, b = (model.run(tokens, capture=kinds_of(whole)) for model in (whole, divided))
    found = {"logits": apart(a.logits.cpu()[tokens.mask], b.logits.cpu()[tokens.mask])}
    for site in a.cache:
        difference = apart(visible(site, a.cache[site], tokens), visible(site, b.cache[site], tokens))
        found[f"capture {site.kind}"] = max(difference, found.get(f"capture {site.kind}", 0.0))
    return found


def cells_of(model: ck.Model, tokens: Tokens, source: Tokens) -> list[list[Intervention]]:
    """Cells of every kind that the model has, at the first head and at the last, at one position and at all."""
    kinds = [kind for kind in kinds_of(model) if kind != "embed"]
    kept = model.run(source, capture=kinds).cache
    cells: list[list[Intervention]] = [[]]
    for kind in kinds:
        for layer in model.layers_with(kind):
            last = (model.n_kv_heads(layer) if kind in ("k", "v") else model.n_heads(layer)) - 1
            for head in (0, last) if kind in HEADS else (None,):
                site = ck.Site(kind, layer=layer, head=head)
                cells.append([ck.replace(site, kept[site])])
                cells.append([ck.scale(site.at(position=-1), 1.4)])
    for layer in range(model.n_layers):
        cells.append([ck.knockout(layer, model.n_heads(layer) - 1, queries=-1, keys=[0, 1])])
        cells.append([ck.zero(ck.Site("z", layer=layer, head=1)), ck.add(ck.Site("mlp_out", layer=-1), 0.3)])
    return cells


def studied(whole: ck.Model, divided: ck.Model, tokens: Tokens, source: Tokens) -> dict[str, float]:
    """The executor, with all that it spares itself, against each cell run alone by the whole model."""
    cells = cells_of(whole, tokens, source)
    ids = torch.randint(5, 90, (len(tokens), 2), generator=torch.Generator().manual_seed(1))
    targets = Targets(ids[:, :1], ids[:, 1:])
    expected, once = (
        torch.stack([logit_difference(model.run(tokens, c, logits_at=-1).logits.cpu(), targets) for c in cells])
        for model in (whole, divided)
    )
    values = measure(divided, tokens, targets, logit_difference, cells, progress=False)
    # Not every one: a final norm takes a scaling of the last stream away.
    moved = float(((expected[1:] - expected[0]).abs().amax(1) > 1e-3).double().mean())
    assert moved > 0.7, f"{1 - moved:.0%} of the cells change nothing"
    return {"run under interventions": apart(expected, once), "executor": apart(expected, values)}


def generated(whole: ck.Model, divided: ck.Model, tokens: Tokens) -> dict[str, float]:
    """Decoding with a KV cache, a head of the last process out, and captures on the way."""
    held = [ck.zero(ck.Site("z", layer=1, head=whole.n_heads(1) - 1)), ck.knockout(0, 0, keys=[1])]
    outcomes = []
    for model in (whole, divided):
        with model.intervene(held, capture=["z[layer=2]", "pattern[layer=1]"]) as session:
            ids = model.generate(tokens, max_new_tokens=4, do_sample=False)
        outcomes.append((ids, session.cache))
    (a, kept), (b, again) = outcomes
    real = kept.positions[:, : kept["z[layer=2]"].shape[1]] >= 0
    z = [cache["z[layer=2]"].cpu()[real] for cache in (kept, again)]
    return {"generated tokens": apart(a, b), "capture while generating": apart(*z)}


def differentiated(whole: ck.Model, divided: ck.Model, tokens: Tokens) -> dict[str, float]:
    kinds = [kind for kind in kinds_of(whole) if kind != "embed"]
    found: dict[str, float] = {}
    gradients = []
    for model in (whole, divided):
        run = model.run(tokens, capture=kinds, gradients=True, logits_at=-1)
        gradients.append(run.gradients(run.logits[:, 7] - run.logits[:, 8]))
    for site in gradients[0]:
        a, b = (visible(site, each[site], tokens) for each in gradients)
        found[f"gradient {site.kind}"] = max(apart(a, b), found.get(f"gradient {site.kind}", 0.0))
    return found


def modules(whole: ck.Model, divided: ck.Model, tokens: Tokens) -> dict[str, float]:
    """Neurons: the MLP's inner linear layers, both ends, read and edited by global index."""
    names = {name for name, _ in whole.hf.named_modules() if ".1." in name}
    inner = [n for n in names if n.endswith(("up_proj", "down_proj", "dense_h_to_4h", "dense_4h_to_h", "q_proj"))]
    found: dict[str, float] = {}
    for name in sorted(name for name in inner if "mlp" in name or "self_attn" in name):
        for end in ("input", "output"):
            site = ck.Site(module=name, end=end)
            a, b = (model.run(tokens, capture=[site]).cache[site] for model in (whole, divided))
            found[f"module {end}"] = max(
                apart(a.cpu()[tokens.mask], b.cpu()[tokens.mask]), found.get(f"module {end}", 0.0)
            )
            mask = torch.ones(a.shape[-1])
            mask[-3:] = 0.0
            a, b = (model.run(tokens, [ck.scale(site, mask)]).logits.cpu()[tokens.mask] for model in (whole, divided))
            found["module edited"] = max(apart(a, b), found.get("module edited", 0.0))
    return found


def surveyed(whole: ck.Model, divided: ck.Model, ids: Tensor, others: Tensor) -> dict[str, float]:
    """The studies built on top, and the unembedding that some of them read."""
    rows = slice(0, 1)
    answers = torch.randint(5, 90, (1, 2), generator=torch.Generator().manual_seed(2))
    pairs = ck.Pairs(ids[rows], others[rows], answer=answers[:, 0], distractor=answers[:, 1])
    heads = [ck.ablation.sweep(model, pairs, metric=logit_difference) for model in (whole, divided)]
    streams = [ck.patching.sweep(model, pairs, over="resid_pre", metric=logit_difference) for model in (whole, divided)]
    lens = [logit_lens(model, ids[rows]).logits for model in (whole, divided)]
    direct = [_direct(model, pairs) for model in (whole, divided)]
    weights = [weight_of(model.hf.get_output_embeddings()) for model in (whole, divided)]
    return {
        "ablation sweep": apart(heads[0].values, heads[1].values),
        "patching sweep": apart(streams[0].values, streams[1].values),
        "logit lens": apart(*lens),
        "direct logits": apart(*direct),
        "unembedding": apart(*weights),
    }


def _direct(model: ck.Model, pairs: ck.Pairs) -> Tensor:
    """What heads add to the answer, where they have shares of their own."""
    try:
        return direct_logits(model, pairs).heads.nan_to_num(0.0)
    except SiteError:
        return torch.zeros(1)


def told(whole: ck.Model, divided: ck.Model, ids: Tensor, others: Tensor) -> dict[str, float]:
    """Path patching, from a head to a key/value head and to a query head."""
    pairs = ck.Pairs(ids[:1], others[:1], answer=torch.tensor([7]), distractor=torch.tensor([8]))
    senders, receivers = ["z[layer=0, head=3]"], ["v[layer=2, head=0]", "q[layer=2, head=3]"]
    values = [ck.patching.paths(model, pairs, senders, receivers).values for model in (whole, divided)]
    return {"path patching": apart(*values)}


def refused(action: Callable[[], object]) -> str:
    try:
        action()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "not refused"


def refusals(divided: ck.Model, tokens: Tokens, source: Tokens) -> dict[str, str]:
    rank = dist.get_rank()
    inner = next((name for name, _ in divided.hf.named_modules() if name.endswith("mlp.act_fn")), None)
    found = {}
    if inner is not None:
        found["activation"] = refused(lambda: divided.run(tokens, capture=[ck.Site(module=inner, end="output")]))
    found["head"] = refused(lambda: divided.run(tokens, capture=["z[layer=0, head=4]"]))
    found["prompts"] = refused(lambda: divided.run(source if rank else tokens))
    torch.manual_seed(rank)
    found["sampling"] = refused(lambda: divided.generate(tokens, max_new_tokens=1, do_sample=True))
    torch.manual_seed(0)
    return found


def compared(folder: Path) -> dict[str, object]:
    """One model in everything that is claimed, or why it cannot be divided."""
    whole, own = ck.load(folder), folder / "tp_plan.json"
    try:
        divided = ck.load(folder, tp_plan=json.loads(own.read_text()) if own.exists() else "auto")
        divided.n_heads(0)
    except (LoadError, SiteError) as error:
        return {"numbers": {}, "refusals": {"load": str(error)}}
    drawn, other = architectures.prompts("left_padded"), architectures.prompts("left_padded", seed=3)
    tokens = whole.tokens(drawn.input_ids, drawn.attention_mask)
    source = whole.tokens(other.input_ids, other.attention_mask)
    numbers = captures(whole, divided, tokens) | studied(whole, divided, tokens, source)
    numbers |= generated(whole, divided, tokens) | differentiated(whole, divided, tokens)
    numbers |= modules(whole, divided, tokens) | surveyed(whole, divided, drawn.input_ids, other.input_ids)
    numbers |= told(whole, divided, drawn.input_ids, other.input_ids)
    return {"numbers": numbers, "refusals": refusals(divided, tokens, source)}


def main(out: Path, folders: list[Path]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    for folder in folders:
        (out / f"{folder.name}-{rank}.json").write_text(json.dumps(compared(folder), indent=1))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
