"""Eight times the batch at eight times the rate needs a warm-up."""
import lab
import svg

TITLE = "Linear scaling needs a warm-up"
BASE = ("128, η = 0.05", 128, 0.05, 0)


def run(place):
    seeds = place.seeds(5, 1)
    epochs = 3 if place.brief else 8
    cases = [BASE, ("1024, η = 0.05", 1024, 0.05, 0), ("1024, η = 0.4", 1024, 0.4, 0), ("1024, η = 0.4, warm-up", 1024, 0.4, 2)]
    if not place.brief:
        cases += [("4096, η = 0.05", 4096, 0.05, 0), ("4096, η = 1.6", 4096, 1.6, 0), ("4096, η = 1.6, warm-up", 4096, 1.6, 2)]
    found = {}
    for name, batch, rate, warmup in cases:
        settings = lab.MLP | {"data.global_batch": batch, "schedule.learning_rate": rate, "schedule.warmup_epochs": warmup, "train.epochs": epochs,
                              "schedule.type": "cosine", "schedule.warmup_from": 0.05 / rate}
        found[name] = [place.train(settings, seed=seed)["percent"] for seed in seeds]
    result = lab.Result(header=["batch", "accuracy, %", "against the base"])
    base = found[BASE[0]]
    paired = {name: lab.differences(values, base) for name, values in found.items()}
    for name, values in found.items():
        result.rows.append((name, lab.text_of(values), lab.text_of(paired[name], signed=True)))

    def check(name, band, ok):
        result.check(name, lab.text_of(paired[name], signed=True), band, ok(lab.mean(paired[name])))
    least = -3 if place.brief else -0.8
    check("1024, η = 0.4, warm-up", f"≥ {least}", lambda v: v >= least)
    if place.brief:
        check("1024, η = 0.05", "≤ −0.5", lambda v: v <= -0.5)
        return result
    check("1024, η = 0.05", "≤ −1", lambda v: v <= -1)
    check("1024, η = 0.4", "≤ −1", lambda v: v <= -1)
    bars = [svg.Series("accuracy", [(i, lab.mean(v), lab.error_of_mean(v)) for i, v in enumerate(found.values())])]
    labels = ["128", "1024, .05", "1024, .4", "1024 w-up", "4096, .05", "4096, 1.6", "4096 w-up"]
    result.figures["warmup.svg"] = svg.bars("Accuracy after 8 epochs by batch, rate and warm-up", svg.Axis("%", least=0, most=100), labels, bars)
    return result
