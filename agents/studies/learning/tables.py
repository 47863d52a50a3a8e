"""What the study of learning says: tables, and sentences that follow from them."""

from __future__ import annotations

import math

from mapgym.agents.files.tables import Table
from mapgym.agents.studies.learning.study import (
    EVOLUTION,
    GAMMA,
    POLICY,
    PROPOSED,
    PROPOSERS,
    RANDOM,
    SEARCHED,
    SEARCHES,
    SIMILAR,
    STARTS,
    TARGETS,
    WARM,
    Outcome,
    geometric_mean,
)
from mapgym.agents.studies.mappers.study import Comparison, Moment

STOCK = ("maskable-ppo", "ppo", "a2c", "dqn")
_NEAR = 1.01


def learning_tables(single: Comparison | None, outcome: Outcome, unseen: str | None) -> list[Table]:
    """The answers, then the tables that they come from, without the one of single layers.

    Args:
        single: agents that learn on one layer beside those that search it; None if there are no runs.
        outcome: of the layers that nobody was trained on.
        unseen: the accelerator that the policy was not trained on.
    """
    answers = [*([] if single is None else single_layer_answers(single)), *_answers(outcome, unseen)]
    note = "Every sentence is made from the tables below; ratios are to the best known objective (EDP)."
    table = Table("Where learning wins, and where it does not", note, ("question", "answer"), answers)
    policies = [_policies(outcome)] if len(outcome.policies) > 1 else []
    return [table, _proposals(outcome), *policies, _searches(outcome), _break_even(outcome), _details(outcome)]


def single_layer_answers(single: Comparison) -> list[list[object]]:
    """Who is ahead on single layers, at each moment."""
    learned = [agent for agent in single.agents if agent in STOCK]
    searched = [agent for agent in single.agents if agent not in STOCK]
    if not learned or not searched:
        return []
    rows: list[list[object]] = []
    for moment in single.moments:
        best, rival = (min(group, key=lambda agent: single.mean(agent, moment)) for group in (learned, searched))
        rows.append([f"one layer from nothing, after {moment.name}", _verdict(single, moment, best, rival)])
    return rows


def _verdict(single: Comparison, moment: Moment, learned: str, searched: str) -> str:
    ours, theirs = single.mean(learned, moment), single.mean(searched, moment)
    who = "Learning wins" if ours < theirs / _NEAR else "Searching wins" if theirs < ours / _NEAR else "They are even"
    return f"{who}: {learned}, the best policy, is at {_x(ours)}; {searched}, the best searcher, at {_x(theirs)}."


def _answers(outcome: Outcome, unseen: str | None) -> list[list[object]]:
    rows: list[list[object]] = []
    for count in PROPOSED:
        ours = outcome.ratios(POLICY, count)
        rows.append([f"unseen layers, {_count(count)} of the policy", _equal_to(outcome, ours, count)])
    if unseen in outcome.accelerators:
        most = PROPOSED[-1]
        ratios = {who: geometric_mean(outcome.ratios(who, most, unseen)) for who in (POLICY, RANDOM, SIMILAR, GAMMA)}
        text = ", ".join(f"{who} {_x(value)}" for who, value in ratios.items())
        first = min(ratios, key=lambda who: ratios[who])
        rows.append(
            [f"an accelerator that it was not trained on ({unseen})", f"{text}, each after {most}: {first} leads."]
        )
    for target in TARGETS:
        warm = geometric_mean(outcome.needed(WARM, target))
        factors = ", ".join(
            f"{_times(geometric_mean(outcome.needed(who, target)) / warm)} than {who}" for who in (GAMMA, EVOLUTION)
        )
        share = outcome.reached(WARM, target)
        rows.append(
            [
                f"samples to {target:g}x",
                f"{WARM.capitalize()} needs {warm:,.0f}, {factors}, and comes there in {share:.0%} of the runs.",
            ]
        )
    for saved in _savings(outcome):
        text = f"By samples: {_after(saved[3])}; by seconds, pricing included: {_after(saved[5])}."
        rows.append([f"when the training has paid for itself (to {saved[0]}, instead of {saved[1]})", text])
    return rows


def _equal_to(outcome: Outcome, ours: list[float], count: int) -> str:
    mean = geometric_mean(ours)
    marks = [(samples, geometric_mean(outcome.ratios(GAMMA, samples))) for samples in _marks(outcome)]
    beaten = [samples for samples, ratio in marks if ratio > mean]
    worst = max(range(len(ours)), key=ours.__getitem__)
    text = f"{_x(mean)}{_range(outcome, count)}, the worst {_x(ours[worst])} ({' on '.join(outcome.tasks[worst])}); "
    text += f"ahead of gamma's {beaten[-1]:,} samples" if beaten else f"behind gamma's {marks[0][0]:,} samples"
    others = (f"{who} at {_x(geometric_mean(outcome.ratios(who, count)))}" for who in (RANDOM, SIMILAR))
    return f"{text}. With as many: {', '.join(others)}."


def _range(outcome: Outcome, count: int) -> str:
    """From the best to the worst policy, where there are several."""
    if len(outcome.policies) < 2:
        return ""
    means = [geometric_mean(outcome.ratios(POLICY, count, policy=policy["model"])) for policy in outcome.policies]
    return f" ({min(means):.3f} to {max(means):.3f} over {len(means)} policies)"


def _marks(outcome: Outcome) -> list[int]:
    return [samples for samples in SEARCHED if samples <= outcome.samples]


def _proposals(outcome: Outcome) -> Table:
    rows: list[list[object]] = []
    for who, counts in (*((who, list(PROPOSED)) for who in PROPOSERS), (GAMMA, _marks(outcome))):
        for count in counts:
            means = [_finite(geometric_mean(outcome.ratios(who, count, name))) for name in outcome.accelerators]
            everywhere = outcome.ratios(who, count)
            worst = max(range(len(everywhere)), key=everywhere.__getitem__)
            last = [_finite(geometric_mean(everywhere)), _finite(everywhere[worst]), " on ".join(outcome.tasks[worst])]
            rows.append([who, count, *means, *last])
    note = (
        "Best of so many mappings over the best known one (stored with mapgym, or of any run here): geometric mean "
        "over layers and seeds, and the worst layer. amortized: proposals of the policy, which has seen neither these "
        "layers nor their costs; random: random legal mappings; similar layers: mappings of the most similar training "
        "layers, transferred (all that fit, where there are fewer than are asked for). Empty: on some layer none was "
        "legal."
    )
    columns = ("mapper", "samples", *outcome.accelerators, "all", "worst", "on which")
    return Table("Layers that were not trained on", note, columns, rows)


def _policies(outcome: Outcome) -> Table:
    """Each of several policies by itself, and how far they are apart."""
    everywhere = [None] if len(outcome.accelerators) == 1 else [*outcome.accelerators, None]
    rows: list[list[object]] = []
    for machine in everywhere:
        metrics: list[list[float]] = []
        for policy in outcome.policies:
            who = policy["model"]
            values = [outcome.ratios(POLICY, count, machine, who) for count in PROPOSED]
            values += [outcome.needed(WARM, target, machine, who) for target in TARGETS]
            metrics.append([geometric_mean(of_one) for of_one in values])
            rows.append([machine or "all", who, *metrics[-1]])
        for name, summary in (("mean", geometric_mean), ("least", min), ("most", max)):
            rows.append([machine or "all", name, *(summary(column) for column in zip(*metrics, strict=True))])
    note = (
        f"Best of so many proposals over the best known mapping, and samples that {WARM} needs: geometric mean over "
        "layers and seeds, for each policy; then mean, least and most of the policies."
    )
    columns = ("accelerator", "policy", *(f"best of {n}" for n in PROPOSED), *(f"samples to {x:g}x" for x in TARGETS))
    return Table("Each trained policy", note, columns, rows)


def _searches(outcome: Outcome) -> Table:
    rows: list[list[object]] = []
    for who in SEARCHES:
        metrics: list[object] = []
        for target in TARGETS:
            needed = geometric_mean(outcome.needed(who, target))
            cold = geometric_mean(outcome.needed(GAMMA, target))
            metrics += [needed, cold / needed, f"{outcome.reached(who, target):.0%}"]
        final = outcome.ratios(who, outcome.samples)
        rows.append([who, *metrics, geometric_mean(final), max(final)])
    parts = [f"{part}{target:g}x" for target in TARGETS for part in ("samples to ", "fewer than gamma, ", "reached ")]
    note = (
        "Samples until so many times the best known objective: geometric mean over layers and seeds; a run that does "
        f"not come there counts with its whole budget of {outcome.samples:,}. The {STARTS} mappings that a search "
        f"begins with are samples. {GAMMA} and {EVOLUTION} begin with random legal mappings, drawn as {RANDOM} draws "
        f"them, {EVOLUTION} with those of eight times as many that use the most MACs: their rows are random mappings, "
        "then the same search. At the end: ratio to the best known, geometric mean and worst layer."
    )
    return Table("Searches from nothing and from what was learned", note, ("search", *parts, "end", "worst"), rows)


def _savings(outcome: Outcome) -> list[list[object]]:
    rows: list[list[object]] = []
    paid_mappings, paid_seconds = _paid(outcome)
    for target in TARGETS:
        for cold in (GAMMA, EVOLUTION):
            saved = _mean(outcome.needed(cold, target)) - _mean(outcome.needed(WARM, target))
            faster = _mean(outcome.seconds(cold, target)) - _mean(outcome.seconds(WARM, target))
            layers = (_layers(paid_mappings, saved), _layers(paid_seconds, faster))
            rows.append([f"{target:g}x", cold, saved, layers[0], faster, layers[1]])
    return rows


def _paid(outcome: Outcome) -> tuple[float, float]:
    """Mappings priced and seconds spent to train one policy, their mean where there are several."""
    return _mean([p["priced"] for p in outcome.policies]), _mean([p["seconds"] for p in outcome.policies])


def _break_even(outcome: Outcome) -> Table:
    paid_mappings, paid_seconds = _paid(outcome)
    note = (
        f"The training of a policy prices {paid_mappings:,.0f} mappings, those of the searches that it imitates and of "
        f"its validation included, and took {paid_seconds:,.0f} CPU seconds until its weights were chosen. "
        f"Saved: samples and seconds to the target from nothing less those of {WARM}, mean over layers. "
        "Layers: after how many the training has paid for itself in samples (mappings priced) and in seconds; never, "
        "if nothing is saved."
    )
    columns = ("to", "instead of", "samples saved", "layers, by samples", "seconds saved", "layers, by seconds")
    return Table("When the training has paid for itself", note, columns, _savings(outcome))


def _details(outcome: Outcome) -> Table:
    columns = [f"{who}, {count}" for who in PROPOSERS for count in PROPOSED]
    columns += [f"{who} to {target:g}x" for who in SEARCHES for target in TARGETS]
    metrics = [outcome.ratios(who, count) for who in PROPOSERS for count in PROPOSED]
    metrics += [outcome.needed(who, target) for who in SEARCHES for target in TARGETS]
    rows: list[list[object]] = [
        [*task, *(_finite(column[k]) for column in metrics)] for k, task in enumerate(outcome.tasks)
    ]
    note = "Each layer: ratios of proposals to the best known, and samples that searches need."
    return Table("Every layer", note, ("layer", "accelerator", *columns), rows)


def _times(factor: float) -> str:
    return f"{factor:.3g} times fewer" if factor >= 1 else f"{1 / factor:.3g} times more"


def _layers(paid: float, saved: float) -> object:
    return math.ceil(paid / saved) if saved > 0 else "never"


def _after(layers: object) -> str:
    return f"after {layers:,} layers" if isinstance(layers, int) else f"{layers}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _count(count: int) -> str:
    return "one proposal" if count == 1 else f"the best of {count} proposals"


def _x(ratio: float) -> str:
    return f"{ratio:.3f}x" if math.isfinite(ratio) else "no legal mapping"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
