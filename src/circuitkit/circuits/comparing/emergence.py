"""Which heads post-training made active: those in the circuit after it and not before, and how sure that is."""

from __future__ import annotations

from circuitkit.circuits.comparing.comparable import check_comparable, uncut
from circuitkit.circuits.comparing.head_changes import HeadChanges
from circuitkit.circuits.comparing.recutting import rule_of
from circuitkit.circuits.comparing.support import Support, supported
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.choosing import Choice, Select
from circuitkit.circuits.graphs.convention import By
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.records import provenance


def emergent_heads(
    base: Graph,
    post: Graph,
    n: int | None = None,
    by: By = "absolute",
    *,
    threshold: float | None = None,
    select: Select = "top",
    prune: bool = True,
    names: tuple[str, str] = ("base", "post-trained"),
    resamples: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> HeadChanges:
    """Tell which heads are in the post-trained model's circuit and not in the base model's, and the other way round.

    Circuits are the graphs' members as they are, cut and pruned. Where both graphs keep each example's scores, the
    problems are drawn anew and the circuits cut again, so that each head has a share of resamples in which it is
    emergent, beside the share that noise alone makes of two samples of the same model; and the number of emergent heads
    stands beside those between two samples of one model.

    Args:
        base, post: graphs of the same architecture, scored in the same way on the same problems.
        n, threshold, by, select, prune: a rule that cuts a circuit out of each graph's scores; without `n` and
            `threshold` the graphs' own circuits are compared, and the rule of resamples is found from them.
        names: what both are called.
        resamples: how many; 0 for none.
        seed: of the draws.
        progress: show a bar.

    Raises:
        CircuitError: the graphs are of other architectures, or their scores mean other things.

    Source: "Thinking Sparks!" (arXiv 2509.25758), which gives no error bars.

    >>> layout = ck.circuits.Layout((2,), (2,), (False,))
    >>> scores = torch.zeros(layout.reach.shape)
    >>> scores[0] = 9.0 * layout.reach[0]
    >>> base = ck.circuits.Graph(layout, scores, layout.reach, ck.circuits.Convention("eap", "logit_difference"))
    >>> scores = scores.clone()
    >>> scores[1, -1] = 5.0
    >>> post = ck.circuits.Graph(layout, scores, layout.reach, base.convention)
    >>> emergent_heads(base.threshold(1.0).prune(), post.threshold(1.0).prune(), progress=False).emergent
    [(0, 0)]
    """
    check_comparable(base, post, names)
    rules: tuple[Choice | None, Choice | None]
    if n is not None or threshold is not None:
        choice = Choice(n, threshold, by, select, prune)
        base, post, rules = choice.of(base), choice.of(post), (choice, choice)
    else:
        rules = rule_of(base), rule_of(post)
    support, unknown = _support(base, post, rules, names, resamples, seed, progress)
    return HeadChanges(base, post, names, support, unknown, _provenance(base, post, names, resamples, seed))


def _support(
    base: Graph,
    post: Graph,
    rules: tuple[Choice | None, Choice | None],
    names: tuple[str, str],
    resamples: int,
    seed: int,
    progress: bool,
) -> tuple[Support | None, str]:
    """What resamples say, or why nothing is known."""
    if resamples < 0 or resamples == 1:
        raise CircuitError(f"{resamples} resamples have nothing to compare: give 2 or more, such as 100, or 0 for none")
    if resamples == 0:
        return None, "how sure this is was not asked (resamples=0)"
    for graph, rule, name in zip((base, post), rules, names, strict=True):
        if uncut(graph):
            return None, f"{name} is uncut, so there is nothing to draw anew"
        if graph.per_example is None:
            return None, (
                f"how sure this is cannot be told: {name} has no scores of single examples (attribute with "
                "keep_examples=True)"
            )
        if rule is None:
            return None, (
                f"how sure this is cannot be told: no rule is known that cuts the circuit of {name} out of its scores "
                "(give n or threshold)"
            )
        clusters = len(graph.per_example) if graph.groups is None else len(set(graph.groups.tolist()))
        if clusters < 2:
            return None, f"how sure this is cannot be told of one {'example' if graph.groups is None else 'group'}"
    assert rules[0] is not None and rules[1] is not None  # just looked at
    return supported(base, post, (rules[0], rules[1]), resamples, seed, progress=progress), ""


def _provenance(base: Graph, post: Graph, names: tuple[str, str], resamples: int, seed: int) -> dict[str, object]:
    return provenance(
        model_name=" and ".join(
            str(graph.provenance.get("model", name)) for graph, name in zip((base, post), names, strict=True)
        ),
        seed=seed,
        study="circuits.emergent_heads",
        resamples=resamples,
        base=dict(base.provenance),
        post=dict(post.provenance),
    )
