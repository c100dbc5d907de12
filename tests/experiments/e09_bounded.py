"""Stale-synchronous training rides out transient stalls, and a learner that is always slow sets the pace (Ho et al. 2013). Times are virtual."""
import lab
import svg

TITLE = "What a bound on staleness is good for"
LEARNERS = 8
KINDS = {"transient": {"stall_probability": 0.05, "stall_factor": 5}, "permanent": {"slow_learner": 3, "slow_factor": 2}}


def run(place):
    updates, seeds = (4000, [1]) if place.brief else (16_000, place.seeds(5))
    bounds = (0, 3) if place.brief else (0, 1, 3, 10, -1)
    found, gaps = {}, {}
    for kind, stalls in KINDS.items():
        for bound in bounds:
            settings = {"model.type": "mlp", "model.hidden": [8], "data.global_batch": 4 * LEARNERS, "schedule.learning_rate": 0.001,
                        "updater.bound": bound, "train.max_steps": updates, "train.epochs": 50}
            runs = [place.train(settings | lab.replay("async", LEARNERS, seed, 0.05, **stalls), seed=seed) for seed in seeds]
            found[kind, bound] = [lab.last(r, "updates_per_virtual_time") / LEARNERS for r in runs]
            gaps[kind, bound] = int(max(lab.last(r, "largest_gap") for r in runs))
    result = lab.Result(header=["bound", "transient: throughput", "largest gap", "permanent: throughput", "largest gap"])
    for bound in bounds:
        cells = [cell for kind in KINDS for cell in (lab.text_of(found[kind, bound], 3), gaps[kind, bound])]
        result.rows.append(("none" if bound < 0 else bound, *cells))
    ratio = lab.mean(found["transient", 3]) / lab.mean(found["transient", 0])
    result.check("transient, 5 % of gradients take 5 times as long: bound 3 / bound 0", f"{ratio:.2f}", "≥ 1.4", ratio >= 1.4)
    for bound in bounds:
        if bound > 0:
            ratio = lab.mean(found["permanent", bound]) / lab.mean(found["permanent", 0])
            result.check(f"permanent, one learner takes twice as long: bound {bound} / bound 0", f"{ratio:.3f}", "1.00 ± 0.03", abs(ratio - 1) <= 0.03)
        if bound >= 0:
            gap = max(gaps[kind, bound] for kind in KINDS)
            result.check(f"bound {bound}: largest gap between learners", str(gap), f"≤ {bound + 1}", gap <= bound + 1)
    if place.brief:
        return result
    series = [svg.Series(kind, [(i, lab.mean(found[kind, bound]), lab.error_of_mean(found[kind, bound])) for i, bound in enumerate(bounds)]) for kind in KINDS]
    axis = svg.Axis("bound on how far a learner may be ahead", ticks=list(enumerate("none" if b < 0 else b for b in bounds)))
    result.figures["bound-throughput.svg"] = svg.lines("8 learners: throughput by bound, of that without waits or stalls", axis,
                                                       svg.Axis("share", least=0, most=1), series, legend_at_bottom=True)
    return result
