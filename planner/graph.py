"""The steps as a directed graph: their order, and the waves of steps that do not wait for each other."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from planner.step import Step


class CycleError(ValueError):
    """Steps that wait for each other in a circle; the message is the circle."""


class MissingStepError(ValueError):
    """A step that waits for one which is not part of the plan; the message names both."""


def graph(steps: Sequence[Step]) -> nx.DiGraph[str]:
    """Step ids, with an edge from each step to those that wait for it.

    Raises `MissingStepError` for a dependency outside `steps`, `CycleError` for a circle.
    """
    result: nx.DiGraph[str] = nx.DiGraph()
    result.add_nodes_from(sorted(step.id for step in steps))
    for step in sorted(steps, key=lambda step: step.id):
        for dependency in sorted(step.after):
            if dependency not in result:
                raise MissingStepError(f"step {step.id} waits for {dependency}, which is not in the plan")
            result.add_edge(dependency, step.id)
    if not nx.is_directed_acyclic_graph(result):
        circle = [edge[0] for edge in nx.find_cycle(result)]
        raise CycleError(f"steps wait for each other: {' -> '.join((*circle, circle[0]))}")
    return result


def waves(steps: Sequence[Step]) -> tuple[tuple[str, ...], ...]:
    """The ids of the steps by generation, each sorted: a step's dependencies are all in earlier waves."""
    return tuple(tuple(sorted(generation)) for generation in nx.topological_generations(graph(steps)))


def ordered(steps: Sequence[Step]) -> tuple[Step, ...]:
    """`steps` by wave, then by id: a topological order that does not depend on the order given."""
    by_id = {step.id: step for step in steps}
    return tuple(by_id[step_id] for wave in waves(steps) for step_id in wave)


def ancestors(steps: Sequence[Step], step_id: str) -> frozenset[str]:
    """The ids of all steps that must be finished before `step_id`. Raises KeyError when it is not one of `steps`."""
    whole = graph(steps)
    if step_id not in whole:
        raise KeyError(step_id)
    return frozenset(nx.ancestors(whole, step_id))
