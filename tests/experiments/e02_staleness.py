"""Stale gradients spoil training at a constant learning rate, and α0 / staleness mends it (Zhang, Gupta, Lian, Liu 2016)."""
import lab
import svg

TITLE = "Staleness, and a learning rate that heeds it"
LEARNERS, RATE = 30, 0.02
CONSTANT, AWARE, SMALL = "constant", "by staleness", "constant α0/n"


def settings(n, how, seed, epochs):
    """n-softsync; 30 learners with batches of 4."""
    rate = RATE / n if how == SMALL else RATE
    return lab.MLP | lab.replay("async", LEARNERS, seed) | {
        "data.global_batch": 4 * LEARNERS, "train.epochs": epochs, "schedule.learning_rate": rate, "updater.soft_sync": n, "updater.lr_by_staleness": how == AWARE}


def run(place):
    seeds, epochs = place.seeds(5, 1), 1 if place.brief else 3
    every = (1, 30) if place.brief else (1, 6, 15, 30)
    cases = [(n, how) for n in every for how in (CONSTANT, AWARE)] + [(n, SMALL) for n in every if n > 6 and not place.brief]
    found = {case: [place.train(settings(*case, seed, epochs), seed=seed)["percent"] for seed in seeds] for case in cases}
    result = lab.Result(header=["n", "constant α0", "α0 / staleness", "against n = 1, constant", "constant α0/n"])
    base = found[1, CONSTANT]
    for n in every:
        paired = lab.differences(found[n, AWARE], base)
        small = lab.text_of(found[n, SMALL]) if (n, SMALL) in found else ""
        result.rows.append((n, lab.text_of(found[n, CONSTANT]), lab.text_of(found[n, AWARE]), lab.text_of(paired, signed=True), small))
    least, within = (70, 5) if place.brief else (82, 2)
    for n in every:
        if n >= 15:
            worst = max(found[n, CONSTANT])
            result.check(f"n = {n}, constant: accuracy, the best seed", f"{worst:.2f}", "≤ 20", worst <= 20)
        if n > 1:
            paired, value = lab.differences(found[n, AWARE], base), lab.mean(found[n, AWARE])
            result.check(f"n = {n}, α0 / staleness: against n = 1", lab.text_of(paired, signed=True), f"within {within}", abs(lab.mean(paired)) <= within)
            result.check(f"n = {n}, α0 / staleness: accuracy", lab.text_of(found[n, AWARE]), f"≥ {least}", value >= least)
    if place.brief:
        return result
    axis = svg.Axis("n of n-softsync", log=True, ticks=[(n, n) for n in every])
    series = [svg.Series(name, [(n, 100 - lab.mean(found[n, how]), lab.error_of_mean(found[n, how])) for n in every])
              for name, how in (("constant learning rate", CONSTANT), ("learning rate / staleness", AWARE))]
    error = svg.Axis("error, %", least=0, most=120, ticks=[(e, e) for e in range(0, 101, 20)])
    result.figures["staleness-error.svg"] = svg.lines("30 learners, 3 epochs: error by n", axis, error, series)
    return result
