"""The rules of a study as a graph, and its layout in layers, from the data down to the page."""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from refers.errors import UserError
from refers.files import MAKERS, read_rows
from refers.formatting import csv_text

FIELDS = ["rule", "stage", "needs"]
# Of ordering and of placing; more of them straighten lines and move boxes apart.
SWEEPS = 24
# Between the boxes of a layer; a line that passes takes a third of it.
GAP = 1.0

# rule -> the rules whose outputs it reads
Graph = dict[str, set[str]]
Point = tuple[float, float]


def read_dot(text: str) -> Graph:
    """The graph that `snakemake --rulegraph dot` prints.

    Raises:
        UserError: it has no rule.
    """
    names = dict(re.findall(r'(\d+)\s*\[\s*label\s*=\s*"([^"]+)"', text))
    graph: Graph = {name: set() for name in names.values()}
    for needed, rule in re.findall(r"(\d+)\s*->\s*(\d+)", text):
        graph[names[rule]].add(names[needed])
    if not graph:
        raise UserError("snakemake --rulegraph printed no rule; run it by hand to see why")
    return graph


def stages(files: Iterable[Path]) -> dict[str, str]:
    """Rule -> name of the file that holds it."""
    found = {}
    for path in files:
        for name in re.findall(r"^(?:rule|use rule \w+ as) (\w+)", path.read_text("utf-8"), re.MULTILINE):
            found[name] = path.stem
    return found


def to_csv(graph: Graph, stage: dict[str, str]) -> str:
    """One row per rule with a stage; the other rules only gather targets."""
    rules = sorted(graph.keys() & stage.keys())
    needs = {rule: " ".join(sorted(graph[rule] & stage.keys())) for rule in rules}
    return csv_text(FIELDS, [{"rule": rule, "stage": stage[rule], "needs": needs[rule]} for rule in rules])


def read_csv(path: Path) -> tuple[Graph, dict[str, str]]:
    """What `to_csv` wrote: the graph and every rule's stage.

    Raises:
        UserError: the file cannot be read, or is something else.
    """
    rows = read_rows(path, "rule graph", FIELDS)
    graph = {row["rule"]: set(row["needs"].split()) for row in rows}
    try:
        if len(graph) < max(len(rows), 1) or set().union(*graph.values()) - graph.keys():
            raise KeyError
        # A circle has no layers.
        for rule in graph:
            if rule in _above(graph, rule):
                raise KeyError
    except KeyError:
        raise UserError(f"{path}: not a graph of rules; delete it and rerun {MAKERS['rule graph']}") from None
    return graph, {row["rule"]: row["stage"] for row in rows}


# ---- layout


def reduced(graph: Graph) -> Graph:
    """The graph without the arrows that a longer path implies (transitive reduction)."""
    above = {rule: _above(graph, rule) for rule in graph}
    return {
        rule: {each for each in needs if not any(each in above[other] for other in needs - {each})}
        for rule, needs in graph.items()
    }


def _above(graph: Graph, rule: str) -> set[str]:
    found, waiting = set(), list(graph[rule])
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += graph[each]
    return found


def layout(graph: Graph) -> tuple[dict[str, Point], list[list[Point]]]:
    """Positions of the rules and of the lines between them (layered drawing: Sugiyama et al., 1981).

    Returns:
        (x, y) by rule: y counts layers downwards from 0, neighbours are at least GAP apart. And for every arrow its points,
        from a rule to one that reads it, one in each layer that it crosses.
    """
    depth: dict[str, int] = {}
    for rule in sorted(graph, key=lambda each: (len(_above(graph, each)), each)):
        depth[rule] = max((depth[need] + 1 for need in graph[rule]), default=0)
    below: dict[str, list[str]] = {rule: [] for rule in graph}
    for rule in sorted(graph):
        for need in graph[rule]:
            below[need].append(rule)
    # A rule that reads no other goes right above the first one that reads it.
    for rule in sorted(graph, key=lambda each: -depth[each]):
        if not graph[rule] and below[rule]:
            depth[rule] = min(depth[each] for each in below[rule]) - 1
    ways, layers = _ways(graph, depth)
    up: dict[str, list[str]] = {}
    down: dict[str, list[str]] = {}
    for first, second in (link for way in ways for link in pairwise(way)):
        down.setdefault(first, []).append(second)
        up.setdefault(second, []).append(first)
    _order(layers, up, down)
    x = _places(layers, up, down, set(graph))
    point = {node: (x[node], float(level)) for level, layer in enumerate(layers) for node in layer}
    return {rule: point[rule] for rule in graph}, [[point[node] for node in way] for way in ways]


def _ways(graph: Graph, depth: dict[str, int]) -> tuple[list[list[str]], list[list[str]]]:
    """Every arrow as nodes in successive layers, and the nodes of every layer."""
    layers: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for rule in sorted(graph):
        layers[depth[rule]].append(rule)
    ways = []
    for rule in sorted(graph):
        for need in sorted(graph[rule]):
            between = [f"{need}>{rule}>{level}" for level in range(depth[need] + 1, depth[rule])]
            for level, node in enumerate(between, depth[need] + 1):
                layers[level].append(node)
            ways.append([need, *between, rule])
    return ways, layers


def _order(layers: list[list[str]], up: dict[str, list[str]], down: dict[str, list[str]]) -> None:
    """Order each layer by the mean position of its neighbours; keep the order with the fewest crossings."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers, down)
    for sweep in range(SWEEPS):
        side, chosen = (up, layers[1:]) if sweep % 2 == 0 else (down, layers[-2::-1])
        for layer in chosen:
            place = {node: number for each in layers for number, node in enumerate(each)}
            near = {node: [place[each] for each in side.get(node, [node])] for node in layer}
            layer.sort(key=lambda node, near=near: sum(near[node]) / len(near[node]))
        if (found := _crossings(layers, down)) < fewest:
            best, fewest = [list(layer) for layer in layers], found
    layers[:] = best


def _crossings(layers: list[list[str]], down: dict[str, list[str]]) -> int:
    count = 0
    for layer, lower in pairwise(layers):
        place = {node: number for number, node in enumerate(lower)}
        ends = [sorted(place[each] for each in down.get(node, ())) for node in layer]
        seen: list[int] = []
        for each in ends:
            count += sum(earlier > end for end in each for earlier in seen)
            seen += each
    return count


def _places(
    layers: list[list[str]], up: dict[str, list[str]], down: dict[str, list[str]], rules: set[str]
) -> dict[str, float]:
    """x of every node: near its neighbours, in the layer's order, at least GAP apart."""

    def gap(left: str, right: str) -> float:
        return GAP * (1 if left in rules and right in rules else 2 / 3 if {left, right} & rules else 1 / 3)

    x: dict[str, float] = {}
    for layer in layers:
        for number, node in enumerate(layer):
            x[node] = x[layer[number - 1]] + gap(layer[number - 1], node) if number else 0.0
    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            wanted = {node: _pull(node, [*up.get(node, ()), *down.get(node, ())], x, rules) for node in layer}
            right, left = dict(wanted), dict(wanted)
            for first, second in pairwise(layer):
                right[second] = max(wanted[second], right[first] + gap(first, second))
            for second, first in pairwise(layer[::-1]):
                left[first] = min(wanted[first], left[second] - gap(first, second))
            for node in layer:
                x[node] = (left[node] + right[node]) / 2
    return x


def _pull(node: str, near: list[str], x: dict[str, float], rules: set[str]) -> float:
    """Weighted mean x of a node's neighbours; within one line they weigh twice, which straightens it."""
    weights = [1 if {node, each} & rules else 2 for each in near]
    return sum(w * x[each] for w, each in zip(weights, near, strict=True)) / sum(weights) if near else x[node]
