"""After the decay of the learning rate, ranks may train by themselves for some steps and average then (post-local SGD)."""
import lab
import svg

TITLE = "Local SGD after the decay"


def phases(first, every, last=0):
    """Synchronous epochs, then averages every so many steps; 1: synchronous to the end."""
    if every == 1:
        return ""
    return f"[[phase]]\nepochs = {first}\n\n[[phase]]\nepochs = {last}\nupdater = {{ type = \"local_sgd\", average_every = {every} }}\n"


def run(place):
    seeds = place.seeds(5, 1)
    half = 1 if place.brief else 2
    model = lab.MLP if place.brief else lab.LENET
    base = model | {"data.global_batch": 128, "schedule.type": "step", "schedule.milestones": [half], "schedule.factor": 0.1, "schedule.learning_rate": 0.02,
                    "train.epochs": 2 * half, "exchange.algorithm": "direct"}
    first = place.train(base | {"train.epochs": half}, ranks=place.ranks)["bytes"]

    def outcomes(every, which=seeds, more={}):
        return [place.train(base | more, ranks=place.ranks, seed=seed, job=phases(half, every)) for seed in which]

    result = lab.Result(header=["average every", "accuracy, %", "against 1", "bytes after the switch, against 1"])
    found = {every: outcomes(every) for every in ((1, 16) if place.brief else (1, 4, 16, 64))}
    accuracy = {every: [r["percent"] for r in runs] for every, runs in found.items()}
    bytes_of = {every: (runs[0]["bytes"] - first) for every, runs in found.items()}
    paired = {every: lab.differences(values, accuracy[1]) for every, values in accuracy.items()}
    for every in found:
        result.rows.append((every, lab.text_of(accuracy[every]), lab.text_of(paired[every], signed=True), f"{bytes_of[every] / bytes_of[1]:.4f}"))
    least = -3 if place.brief else -0.5
    result.check("average every 16 steps: accuracy against every step", lab.text_of(paired[16], signed=True), f"≥ {least}", lab.mean(paired[16]) >= least)
    ratio = bytes_of[16] / bytes_of[1]
    result.check("bytes, average every 16, parameters and momentum", f"{ratio:.4f}", "2/16, within 10 %", abs(ratio * 8 - 1) <= 0.1)
    if place.brief:
        return result
    plain = {"optimizer.momentum": 0.0}
    start = place.train(base | plain | {"train.epochs": half}, ranks=place.ranks)["bytes"]
    one, sixteen = (outcomes(every, seeds[:1], plain)[0]["bytes"] - start for every in (1, 16))
    result.check("bytes, average every 16, no momentum", f"{sixteen / one:.4f}", "1/16, within 10 %", abs(16 * sixteen / one - 1) <= 0.1)
    axis = svg.Axis("steps between averages", log=True, ticks=[(e, e) for e in found])
    result.figures["local-accuracy.svg"] = svg.lines("LeNet, 8 ranks: accuracy by steps between averages", axis, svg.Axis("accuracy, %"),
                                                     [svg.Series("accuracy", [(e, lab.mean(v), lab.error_of_mean(v)) for e, v in accuracy.items()])])
    result.figures["local-bytes.svg"] = svg.lines("Bytes after the switch, against synchronous training", axis, svg.Axis("ratio", log=True),
                                                  [svg.Series("bytes", [(e, b / bytes_of[1]) for e, b in bytes_of.items()])])
    return result
