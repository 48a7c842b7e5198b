"""TGN with PRES written from the papers in float64, one node and one event at a time.

JODIE, DyRep and TGAT are the same with other parts.

Takes nothing from the code under test but weights by name. Used by the tests as
the reference for modules and for whole temporal batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pres_dist.config.model import ModelConfig
from pres_dist.config.pres import PresConfig
from pres_dist.events.stream import EventStream

Vector = np.ndarray


@dataclass(frozen=True)
class SlowMail:
    """One raw message: the other endpoint's memory or embedding, edge features and time."""

    other: Vector
    edge: Vector
    t: int


class SlowModel:
    """The modules of a TGN, with the weights of the model under test."""

    def __init__(self, weights: dict[str, Vector], config: ModelConfig, time_unit: float) -> None:
        self.weights, self.config, self.time_unit = weights, config, time_unit

    def phi(self, dt: int) -> Vector:
        dim = self.config.time_dim
        frequencies = np.array([math.sqrt(dim) ** (-i / math.sqrt(dim)) for i in range(dim)])
        phases = np.zeros(dim)
        if self.config.time_encoding == "learnable":
            frequencies = self.weights["time_encoding.frequencies"]
            phases = self.weights["time_encoding.phases"]
        return np.cos(dt / self.time_unit * frequencies + phases)

    def linear(self, name: str, x: Vector) -> Vector:
        result = self.weights[f"{name}.weight"] @ x
        return result + self.weights.get(f"{name}.bias", 0.0)

    def message(self, own: Vector, mail: SlowMail, last_update: int | None) -> Vector:
        elapsed = 0 if last_update is None else mail.t - last_update
        raw = np.concatenate([own, mail.other, mail.edge, self.phi(elapsed)])
        if self.config.message == "identity":
            return raw
        hidden = np.maximum(self.linear("updater.message_function.mlp.0", raw), 0)
        return self.linear("updater.message_function.mlp.2", hidden)

    def cell(self, message: Vector, memory: Vector) -> Vector:
        w = {
            name: self.weights[f"updater.cell.{name}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        of_message = w["weight_ih"] @ message + w["bias_ih"]
        of_memory = w["weight_hh"] @ memory + w["bias_hh"]
        if self.config.updater == "rnn":
            return np.tanh(of_message + of_memory)
        reset_m, update_m, new_m = np.split(of_message, 3)
        reset_s, update_s, new_s = np.split(of_memory, 3)
        reset, update = _sigmoid(reset_m + reset_s), _sigmoid(update_m + update_s)
        new = np.tanh(new_m + reset * new_s)
        return (1 - update) * new + update * memory

    def measure(
        self, memory: Vector, last_update: int | None, mails: Sequence[SlowMail]
    ) -> tuple[Vector, int | None]:
        """Memory and last update after mail, oldest first."""
        if not mails:
            return memory, last_update
        if self.config.aggregator == "sequential":
            for mail in mails:
                memory = self.cell(self.message(memory, mail, last_update), memory)
                last_update = mail.t
            return memory, last_update
        if self.config.aggregator == "last":
            mails = mails[-1:]
        messages = [self.message(memory, mail, last_update) for mail in mails]
        return self.cell(sum(messages) / len(messages), memory), mails[-1].t

    def logit(self, source: Vector, destination: Vector) -> float:
        hidden = self.linear("decoder.source", source)
        hidden = np.maximum(hidden + self.linear("decoder.destination", destination), 0)
        return float(self.linear("decoder.out", hidden)[0])


class SlowEmbedding:
    """Embeds a node at a time by recursion over its history in the stream.

    Args:
        state: memory plus node features of a node.
        last_update: of a node's memory.
        name: of the module whose weights to take.
        how: one of `ModelConfig.embedding`.
    """

    def __init__(
        self,
        model: SlowModel,
        stream: EventStream,
        num_neighbors: int,
        state: Callable[[int], Vector],
        last_update: Callable[[int], int | None],
        name: str = "embedding",
        how: str | None = None,
    ) -> None:
        self.model, self.stream, self.num_neighbors = model, stream, num_neighbors
        self.state, self.last_update = state, last_update
        self.name, self.how = name, how or model.config.embedding
        self._known: dict[tuple[int, int, int], Vector] = {}

    def embed(self, node: int, t: int) -> Vector:
        if self.how in ("attention", "sum"):
            return self._layer(node, t, self.model.config.num_layers)
        state = self.state(node)
        if self.how == "time":
            last = self.last_update(node)
            silent = 0 if last is None else t - last
            units = math.log1p(silent / self.model.time_unit)
            state = state * (1 + self.model.linear("embedding.drift", np.array([units])))
        if "embedding.project.weight" in self.model.weights:
            return self.model.linear("embedding.project", state)
        return state

    def history(self, node: int, t: int) -> list[int]:
        """The last K events of a node before t."""
        stream = self.stream
        events = [
            event
            for event in range(stream.num_events)
            if stream.t[event] < t and node in (stream.src[event], stream.dst[event])
        ]
        return events[-self.num_neighbors :]

    def _remembered(self, node: int, t: int, layer: int) -> Vector:
        key = (node, t, layer)
        if key not in self._known:
            self._known[key] = self._layer(node, t, layer)
        return self._known[key]

    def _layer(self, node: int, t: int, layer: int) -> Vector:
        if layer == 0:
            return self.state(node)
        stream, model = self.stream, self.model
        own = self._remembered(node, t, layer - 1)
        around = []
        for event in self.history(node, t):
            src, dst, t_event = int(stream.src[event]), int(stream.dst[event]), int(stream.t[event])
            state = self._remembered(dst if src == node else src, t_event, layer - 1)
            around.append(np.concatenate([state, edge_of(stream, event), model.phi(t - t_event)]))
        name = f"{self.name}.layers.{layer - 1}"
        if self.how == "attention":
            return self._attention(name, own, around)
        return self._sum(name, own, around)

    def _attention(self, name: str, own: Vector, around: list[Vector]) -> Vector:
        model = self.model
        attended = np.zeros(model.config.embedding_dim)
        if around:
            query = model.linear(f"{name}.attention.query", np.concatenate([own, model.phi(0)]))
            keys = [model.weights[f"{name}.attention.key"] @ x for x in around]
            values = [model.weights[f"{name}.attention.value"] @ x for x in around]
            width = len(attended) // model.config.num_heads
            for head in range(0, len(attended), width):
                part = slice(head, head + width)
                scores = np.array([query[part] @ key[part] for key in keys]) / math.sqrt(width)
                weights = np.exp(scores) / np.exp(scores).sum()
                attended[part] = sum(
                    w * value[part] for w, value in zip(weights, values, strict=True)
                )
        hidden = model.linear(f"{name}.merge_in", np.concatenate([attended, own]))
        return model.linear(f"{name}.merge_out", np.maximum(hidden, 0))

    def _sum(self, name: str, own: Vector, around: list[Vector]) -> Vector:
        model = self.model
        summed = np.zeros(model.config.embedding_dim)
        for x in around:
            summed = summed + model.linear(f"{name}.project", x)
        joined = np.concatenate([np.maximum(summed, 0), own, model.phi(0)])
        return model.linear(f"{name}.merge", joined)


@dataclass
class SlowNode:
    """State of a node. `rates` are its transition rates, one list a component."""

    memory: Vector
    last_update: int | None = None
    mail: list[tuple[int, Vector]] = field(default_factory=list)
    """Event and the other endpoint's memory or embedding, oldest first."""
    count: int = 0
    rates: tuple[list[Vector], list[Vector]] = field(default_factory=lambda: ([], []))

    @property
    def seen(self) -> list[Vector]:
        return self.rates[0] + self.rates[1]


@dataclass
class SlowUpdate:
    """A node after its mail; `moved` says whether an earlier state went forward."""

    previous: Vector
    memory: Vector
    last_update: int | None
    elapsed: int
    moved: bool


@dataclass
class SlowScores:
    positive: Vector
    negative: Vector
    link_loss: float
    incoherence: float


class SlowStep:
    """Temporal batches in TGN's order: apply mail, score, write memory and mail."""

    def __init__(
        self,
        model: SlowModel,
        stream: EventStream,
        pres: PresConfig,
        memory_dim: int,
        num_slots: int,
        num_neighbors: int,
    ) -> None:
        self.model, self.stream, self.pres = model, stream, pres
        self.num_slots, self.num_neighbors = num_slots, num_neighbors
        self.nodes = [SlowNode(np.zeros(memory_dim)) for _ in range(stream.num_nodes)]

    def forward(self, events: Sequence[int], negatives: Sequence[Sequence[int]]) -> SlowScores:
        self.updates: dict[int, SlowUpdate] = {}
        self.first = min(events, default=0)
        embedding = self._embedding("embedding", self.model.config.embedding)
        positive, negative, incoherence = [], [], []
        for event, drawn in zip(events, negatives, strict=True):
            t = int(self.stream.t[event])
            ends = int(self.stream.src[event]), int(self.stream.dst[event])
            source, true, *others = (embedding.embed(node, t) for node in (*ends, *drawn))
            positive.append(self.model.logit(source, true))
            negative.append([self.model.logit(source, embedded) for embedded in others])
            incoherence += [_incoherence(self._updated(node)) for node in ends]
        link = np.mean(np.logaddexp(0, -np.array(positive)))
        link += np.mean(np.logaddexp(0, np.array(negative)))
        return SlowScores(
            np.array(positive), np.array(negative), float(link), float(np.mean(incoherence))
        )

    def commit(
        self, events: Sequence[int], negatives: Sequence[Sequence[int]], learn: bool
    ) -> None:
        if not self.model.config.has_memory:
            return
        src, dst = self.stream.src, self.stream.dst
        ends = {int(node) for event in events for node in (src[event], dst[event])}
        updates = {node: self._updated(node) for node in ends}
        held = self._held_in_messages()
        mail = {node: self._mail(node, events, held) for node in ends}
        if learn and self.pres.prediction:
            if self.pres.components == 2:
                for node in {int(node) for drawn in negatives for node in drawn}:
                    self._observe(node, 1)
            for node in ends:
                self._observe(node, 0)
        for node, update in updates.items():
            state = self.nodes[node]
            state.memory, state.last_update = update.memory, update.last_update
            state.count = len(mail[node])
            state.mail = mail[node][-self.num_slots :]

    def _mail(
        self, node: int, events: Sequence[int], held: Callable[[int, int], Vector]
    ) -> list[tuple[int, Vector]]:
        src, dst = self.stream.src, self.stream.dst
        own = [event for event in events if node in (src[event], dst[event])]
        others = [int(dst[event] if src[event] == node else src[event]) for event in own]
        return [(event, held(other, event)) for event, other in zip(own, others, strict=True)]

    def _held_in_messages(self) -> Callable[[int, int], Vector]:
        """Return a function that gives the part of a message that tells of the other endpoint."""
        config = self.model.config
        if config.message_endpoint == "memory":
            return lambda node, event: self._updated(node).memory
        if config.embedding not in ("attention", "sum"):
            own = self._embedding("message_embedding", "attention")
            return lambda node, event: own.embed(node, int(self.stream.t[event]))
        shared = self._embedding("embedding", config.embedding)

        def held(node: int, event: int) -> Vector:
            t = int(self.stream.t[event])
            return shared.embed(node, t)

        return held

    def _embedding(self, name: str, how: str) -> SlowEmbedding:
        return SlowEmbedding(
            self.model,
            self.stream,
            self.num_neighbors,
            self._state,
            lambda node: self._updated(node).last_update,
            name,
            how,
        )

    def _state(self, node: int) -> Vector:
        features = self.stream.node_features
        if not self.model.config.has_memory:
            return np.zeros(0) if features is None else features[node].astype(np.float64)
        memory = self._updated(node).memory
        if self.stream.node_features is None:
            return memory
        return memory + self.model.weights["features.weight"] @ self.stream.node_features[node]

    def _updated(self, node: int) -> SlowUpdate:
        if node not in self.updates:
            self.updates[node] = self._update(node)
        return self.updates[node]

    def _update(self, node: int) -> SlowUpdate:
        state = self.nodes[node]
        mails = [
            SlowMail(other, edge_of(self.stream, event), int(self.stream.t[event]))
            for event, other in state.mail
        ]
        start, lost = state.memory, state.count - len(mails)
        if self.pres.corrects == "lost" and lost > 0 and state.last_update is not None:
            start = start + self._change(start, state, mails[0].t - state.last_update, lost)
        measured, last_update = self.model.measure(start, state.last_update, mails)
        elapsed = 0
        if mails and state.last_update is not None and last_update is not None:
            elapsed = last_update - state.last_update
        memory = measured
        length = self._length(elapsed, state.count)
        weighs = self.pres.prediction and self.pres.corrects == "update"
        if weighs and state.seen and length > 0:
            change = self._change(state.memory, state, elapsed, state.count)
            gate = _sigmoid(self.model.weights["correction.gate_logit"])
            memory = (1 - gate) * (state.memory + change) + gate * measured
        return SlowUpdate(state.memory, memory, last_update, elapsed, elapsed > 0)

    def _change(self, start: Vector, state: SlowNode, elapsed: int, count: int) -> Vector:
        """Return the change that the prediction adds to a memory."""
        length, num = self._length(elapsed, count), len(state.seen)
        if not (self.pres.prediction and num and length > 0):
            return np.zeros_like(start)
        mean = sum(state.seen) / num
        if self.pres.predictor == "level":
            share = _sigmoid(self.model.weights["correction.predict.share_logit"])
            change = (1 - (1 - share) ** length) * (mean - start)
        else:
            change = length * mean
        return change * num / (num + self.pres.shrinkage)

    def _observe(self, node: int, component: int) -> None:
        update = self._updated(node)
        length = self._length(update.elapsed, self.nodes[node].count)
        if length > 0:
            seen = update.memory
            if self.pres.predictor == "drift":
                seen = (update.memory - update.previous) / length
            self.nodes[node].rates[component].append(seen)

    def _length(self, elapsed: int, count: int) -> float:
        units = elapsed / self.model.time_unit
        if self.pres.clock == "event":
            return float(count) if elapsed > 0 else 0.0
        return math.log1p(units) if self.pres.clock == "log" else units


def edge_of(stream: EventStream, event: int) -> Vector:
    """float64 features of an event; empty for a stream without."""
    if stream.edge_features is None:
        return np.zeros(0)
    return stream.edge_features[event].astype(np.float64)


def _incoherence(update: SlowUpdate) -> float:
    if not update.moved:
        return 0.0
    before, after = update.previous, update.memory
    return 1 - float(before @ after / (np.linalg.norm(before) * np.linalg.norm(after)))


def _sigmoid(x: Vector) -> Vector:
    return 1 / (1 + np.exp(-x))
