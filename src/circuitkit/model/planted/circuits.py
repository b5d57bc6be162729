"""The planted circuits: which heads they have, where, and how the rest of the model is filled with noise."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from circuitkit.model.planted.architectures import GPT2, N_HEADS, Architecture, Llama
from circuitkit.model.planted.flow import Part, carriers, handings
from circuitkit.model.planted.heads import LEAK, HeadWeights, Lookup, lookup, noise_head, previous_token
from circuitkit.model.planted.stream import CONSTANT, D_MODEL, Stream, word_codes
from circuitkit.model.planted.words import (
    BOS_ID,
    FIRST_WORD_ID,
    N_WORDS,
    SEPARATOR_ID,
    VOCABULARY,
    Corruption,
    PlantedPairs,
    Task,
    check_corruption,
    draw_pairs,
    tokenizer,
)

Head = tuple[int, int]

# A full match wins about three quarters of the attention: the softmax is still steep, and its gradient tells.
SOFT = Lookup(gain=6.0, rest=0.8)
# A full match wins by some 50 nats: in fp32 the softmax's gradient is nil, and only a real change shows.
SATURATED = Lookup(gain=100.0, rest=0.5)
# What the primary announces, about 0.7 along `done`, makes resting score twice a full match.
BACKUP = Lookup(gain=12.0, rest=0.0, write=0.5, yields=3.0)
ANNOUNCEMENT = 0.7
LOGIT_SCALE = 4.0

_PLANS: dict[Task, dict[str, Lookup]] = {
    "induction": {
        "induction": Lookup(SOFT.gain, SOFT.rest, announces=ANNOUNCEMENT),
        "decoy": Lookup(SOFT.gain, SOFT.rest, destination="unread"),
        "saturated": SATURATED,
        "backup": BACKUP,
    },
    "two-hop": {
        # Written a third larger than a match, so that the second hop reads a whole unit.
        "first_hop": Lookup(SOFT.gain, SOFT.rest, write=1.35, destination="bridge"),
        "second_hop": Lookup(SOFT.gain, SOFT.rest, query="bridge", announces=ANNOUNCEMENT),
        "decoy": Lookup(SOFT.gain, SOFT.rest, query="bridge", destination="unread"),
        "saturated": Lookup(SATURATED.gain, SATURATED.rest, query="bridge"),
        "backup": Lookup(BACKUP.gain, BACKUP.rest, BACKUP.write, query="bridge", yields=BACKUP.yields),
    },
}
# The layers that a role may be drawn into: each after the roles that it reads. The decoy shares its twin's
# layer, because only there does it read the same stream and attend the same way to the last digit.
_LAYERS: dict[Task, dict[str, tuple[int, ...]]] = {
    "induction": {"previous": (0, 1), "induction": (2,), "decoy": (2,), "saturated": (2, 3), "backup": (3, 4)},
    "two-hop": {
        "previous": (0, 1),
        "first_hop": (2,),
        "second_hop": (3,),
        "decoy": (3,),
        "saturated": (3, 4),
        "backup": (4, 5),
    },
}
_N_LAYERS: dict[Task, int] = {"induction": 5, "two-hop": 6}
_PRIMARY: dict[Task, str] = {"induction": "induction", "two-hop": "second_hop"}

_EXPECTED = {
    "previous": (
        "Denoising its z restores everything where subjects are swapped, nothing where only the query or the "
        "objects change (it reads neither for the answer). Any ablation destroys the task: nothing replaces it."
    ),
    "induction": (
        "Denoising its z restores its share, about two fifths. Its query carries a changed query, its key "
        "swapped subjects, its value swapped objects; gradients see all three. Zero ablation costs little, for "
        "the backup takes over; mean and resample ablation leave its announcement in place, so that the backup "
        "stays silent and the whole share is lost."
    ),
    "first_hop": (
        "Denoising its z restores everything where subjects are swapped or the query changes, nothing where the "
        "final objects are swapped. Any ablation destroys the task."
    ),
    "second_hop": (
        "Denoising its z restores its share, about two fifths. Its query carries swapped subjects and a changed "
        "query, by way of the first hop; its value carries swapped objects; gradients see both. Zero ablation "
        "costs little, for the backup takes over; mean and resample ablation leave its announcement in place, so "
        "that the backup stays silent and the whole share is lost."
    ),
    "saturated": (
        "Denoising its z restores its share, about three fifths, and every ablation costs that share. Patching "
        "its query, or its key where subjects it looks up are swapped, has the full effect, but gradients through "
        "them are nil: attribution by gradients misses it there, and sees it at z and at its value."
    ),
    "decoy": (
        "Attends exactly as the primary head does and writes as much, to where nothing reads: no patch, no "
        "ablation and no gradient finds it. Only its attention pattern suggests otherwise."
    ),
    "backup": (
        "Silent while the primary head announces itself: neither denoising nor ablating it alone does anything. "
        "Once the primary is zeroed, it restores more than half of what the primary gave."
    ),
}


@dataclass(frozen=True, eq=False)
class Planted:
    """A model with a circuit set by hand amid random heads and MLPs, and what there is to find in it.

    `circuit` maps the roles of the heads that do the task to (layer, head); `primary` is the role among them
    that the `backup` head replaces and the `decoy` imitates. `expected` says for each role what each method
    should report. Heads are drawn by the seed, so no method can know them in advance.

    >>> planted = induction(seed=0)
    >>> sorted(planted.circuit)
    ['induction', 'previous', 'saturated']
    """

    name: str
    task: Task
    seed: int
    circuit: MappingProxyType[str, Head]
    primary: str
    decoy: Head
    backup: Head
    expected: MappingProxyType[str, str]
    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerFast = field(repr=False)

    @property
    def heads(self) -> frozenset[Head]:
        """The heads that do the task: those that denoising each head's z, one at a time, should find."""
        return frozenset(self.circuit.values())

    @property
    def saturated(self) -> Head:
        """The head of the circuit whose softmax is saturated."""
        return self.circuit["saturated"]

    def pairs(self, n: int, seed: int = 0, *, length: int = 20, corruption: Corruption = "subject") -> PlantedPairs:
        """Draw `n` clean and corrupt prompts of equal length, with the answer to each.

        Token tensors are `[n, length]`, the first token is <bos>. An induction prompt is "… A B … C D … A",
        with the answer B and the distractor D, at random places among other words. A two-hop prompt is
        shuffled facts "a b ; b c ; d e ; e f ; … a", with the answer c and the distractor f. `corruption`
        swaps the `subject` words (A with C, a with d), which needs every head of the circuit to undo; or the
        `object` words (B with D, c with f); or replaces the last word, the `query`.

        Raises ValueError for n < 1, another corruption, or a length that the task does not allow.

        >>> induction(seed=0).pairs(3, length=12).clean.shape
        torch.Size([3, 12])
        """
        return draw_pairs(self.task, n, seed, length, corruption)

    def edges(self, corruption: Corruption = "subject") -> frozenset[tuple[str, str]]:
        """The edges that do the task, as pairs of a source's and a destination's name: the truth of edge attribution.

        An edge does it where what it carries differs between pairs of that corruption, and the difference comes to the
        prediction; so the construction tells, by which subspace each head reads and writes (see `flow`). Destinations
        are a head's query, key or value input, "a2.h5<q>" (in grouped-query models "a2.kv1<k>"), and "logits".

        Raises ValueError for another corruption.

        >>> sorted(induction(seed=0).edges("query"))
        [('a2.h1', 'logits'), ('a2.h2', 'logits'), ('input', 'a2.h1<q>'), ('input', 'a2.h2<q>')]
        """
        check_corruption(corruption)
        found = carriers(handings(self.task, _PLANS[self.task]), corruption)
        return frozenset((self._source(writer), self._destination(reader, part)) for writer, reader, part in found)

    def _source(self, role: str) -> str:
        if role not in self.circuit:
            return role
        layer, head = self.circuit[role]
        return f"a{layer}.h{head}"

    def _destination(self, role: str, part: Part | None) -> str:
        if part is None:
            return role
        layer, head = self.circuit[role]
        shared = int(getattr(self.model.config, "num_key_value_heads", N_HEADS))
        grouped = part != "q" and shared < N_HEADS
        return f"a{layer}.kv{head * shared // N_HEADS}<{part}>" if grouped else f"a{layer}.h{head}<{part}>"

    def save(self, folder: str | Path) -> None:
        """Write the model, its tokenizer and `circuit.json` (the answer key) into a folder.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder: induction(seed=0).save(folder)
        """
        folder = Path(folder)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        key = {
            "name": self.name,
            "task": self.task,
            "seed": self.seed,
            "circuit": dict(self.circuit),
            "primary": self.primary,
            "decoy": self.decoy,
            "backup": self.backup,
            "expected": dict(self.expected),
        }
        (folder / "circuit.json").write_text(json.dumps(key, indent=2) + "\n")


def induction(architecture: Literal["gpt2", "llama"] = "gpt2", seed: int = 0) -> Planted:
    """Build a model that completes "… A B … A" with B: a previous-token head, then induction heads.

    Five layers of eight heads, d_model 256, fp32 on the CPU. Raises ValueError for another architecture.
    The circuit is that of Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", the
    self-repair that of McGrath et al. 2023, "The Hydra Effect", the saturation that of Kramár et al. 2024, "AtP*".

    >>> induction("llama", seed=1).model.config.num_key_value_heads
    4
    """
    return _plant("induction", architecture, seed)


def two_hop(architecture: Literal["gpt2", "llama"] = "gpt2", seed: int = 0) -> Planted:
    """Build a model that deduces c from "a b ; b c ; … a": a previous-token head, then two lookups in a row.

    Six layers of eight heads, d_model 256, fp32 on the CPU. Raises ValueError for another architecture.

    >>> sorted(two_hop(seed=0).circuit)
    ['first_hop', 'previous', 'saturated', 'second_hop']
    """
    return _plant("two-hop", architecture, seed)


def _plant(task: Task, architecture: Literal["gpt2", "llama"], seed: int) -> Planted:
    if architecture not in ("gpt2", "llama"):
        raise ValueError(f"architecture must be 'gpt2' or 'llama', and is {architecture!r}")
    generator = torch.Generator().manual_seed(seed)
    build: Architecture = (GPT2 if architecture == "gpt2" else Llama)(_N_LAYERS[task])
    stream = Stream.draw(generator)
    places = _place(task, build.n_kv_heads, generator)
    heads = {places["previous"]: previous_token(stream, build.axes)}
    heads |= {places[role]: lookup(stream, build.axes, plan) for role, plan in _PLANS[task].items()}
    with torch.no_grad():
        _fill(build, _N_LAYERS[task], stream, heads, generator)
        _set_embeddings(build, _N_LAYERS[task], stream, generator)
    decoy, backup = places.pop("decoy"), places.pop("backup")
    return Planted(
        name=f"planted-{task}-{architecture}",
        task=task,
        seed=seed,
        circuit=MappingProxyType(places),
        primary=_PRIMARY[task],
        decoy=decoy,
        backup=backup,
        expected=MappingProxyType({role: _EXPECTED[role] for role in _LAYERS[task]}),
        model=build.model,
        tokenizer=tokenizer(),
    )


def _place(task: Task, n_kv_heads: int, generator: torch.Generator) -> dict[str, Head]:
    """Draw a head for each role; two roles never share keys and values, so each may set its own."""
    per_group = N_HEADS // n_kv_heads
    places: dict[str, Head] = {}
    taken: set[Head] = set()
    for role, layers in _LAYERS[task].items():
        while True:
            layer = layers[int(torch.randint(len(layers), (), generator=generator))]
            head = int(torch.randint(N_HEADS, (), generator=generator))
            if (layer, head // per_group) not in taken:
                break
        taken.add((layer, head // per_group))
        places[role] = (layer, head)
    return places


def _expected_norms(build: Architecture, writes: int) -> tuple[float, float]:
    """Return the expected norm of the stream after so many unit writes, without and with the constant."""
    embedded = 2 if build.has_position_codes else 1
    content = embedded + writes
    return content**0.5, (content + CONSTANT**2) ** 0.5


def _fill(
    build: Architecture,
    n_layers: int,
    stream: Stream,
    planted: dict[Head, HeadWeights],
    generator: torch.Generator,
) -> None:
    for layer in range(n_layers):
        content, norm = _expected_norms(build, layer * (N_HEADS + 1))
        content_mid, norm_mid = _expected_norms(build, layer * (N_HEADS + 1) + N_HEADS)
        build.norms(layer, norm, norm_mid)
        build.mlp(layer, content_mid, stream, generator)
        for head in range(N_HEADS):
            build.head(layer, head, noise_head(stream, build.axes, content, generator))
        # Planted heads come last: in a grouped-query layer they decide the keys and values of their group.
        for (its_layer, head), weights in planted.items():
            if its_layer == layer:
                build.head(layer, head, weights)


def _set_embeddings(build: Architecture, n_layers: int, stream: Stream, generator: torch.Generator) -> None:
    words, codes = slice(FIRST_WORD_ID, FIRST_WORD_ID + N_WORDS), word_codes()[:N_WORDS]
    tokens = (CONSTANT * stream.direction("constant")).repeat(len(VOCABULARY), 1)
    tokens[BOS_ID] += stream.direction("bos")
    tokens[SEPARATOR_ID] += stream.direction("separator")
    tokens[words] += codes @ stream.space("token").T
    build.embed(tokens, stream)
    noise = torch.randn(len(VOCABULARY), D_MODEL, generator=generator) @ stream.readable() / D_MODEL**0.5
    rows = LEAK * noise
    rows[words] += codes @ stream.space("output").T
    _, norm = _expected_norms(build, n_layers * (N_HEADS + 1))
    build.unembed(LOGIT_SCALE * rows, norm)
