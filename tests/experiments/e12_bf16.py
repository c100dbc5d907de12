"""bfloat16 needs float32 where small things are added up: in the weights, and in sums over ranks."""
import lab
import svg
from e06_rounding import errors_of

TITLE = "bfloat16 needs float32 masters and sums"


def run(place):
    seeds = place.seeds(5, 1)
    base = lab.MLP | {"data.global_batch": 128, "schedule.learning_rate": 0.002, "train.epochs": 1 if place.brief else 2}
    cases = {"fp32": {}, "bf16 weights, nearest": {"optimizer.type": "sgd_on_bf16", "optimizer.rounding": "nearest"},
             "bf16 weights, stochastic": {"optimizer.type": "sgd_on_bf16", "optimizer.rounding": "stochastic"},
             "bf16 products, fp32 masters": {"train.precision": "bf16"}}
    found = {name: [place.train(base | more, seed=seed)["percent"] for seed in seeds] for name, more in cases.items()}
    paired = {name: lab.differences(values, found["fp32"]) for name, values in found.items()}
    result = lab.Result(header=["weights", "accuracy, %", "against fp32"])
    for name, values in found.items():
        result.rows.append((name, lab.text_of(values), lab.text_of(paired[name], signed=True)))
    for name in list(cases)[1:]:
        middle = lab.mean(paired[name])
        if "nearest" in name:
            most = -1 if place.brief else -2
            result.check(name, lab.text_of(paired[name], signed=True), f"≤ {most}", middle <= most)
        else:
            most = 1.5 if place.brief else 0.3
            result.check(name, lab.text_of(paired[name], signed=True), f"within {most}", abs(middle) <= most)
    bars = [svg.Series("accuracy", [(i, lab.mean(v), lab.error_of_mean(v)) for i, v in enumerate(found.values())])]
    result.figures["bf16-weights.svg"] = svg.bars("Accuracy after 2 epochs at η = 0.002", svg.Axis("%", least=70, most=90),
                                                  ["fp32", "bf16, nearest", "bf16, stochastic", "fp32 masters"], bars)
    largest = 64 if place.brief else 512
    for step, name in ((20, "early"),) if place.brief else ((20, "early"), (1500, "late")):
        errors = errors_of(place.run("errors", "--step", step, "--largest", largest), "bf16")
        ratio, least = errors["ring"][-1][1] / errors["direct"][-1][1], 3 if place.brief else 5
        result.check(f"{name} gradients, N = {largest}: error of bf16 sums / of fp32 sums", f"{ratio:.1f}", f"> {least}", ratio > least)
        series = [svg.Series("bf16 sums, around a ring", errors["ring"]), svg.Series("fp32 sums of bf16 messages", errors["direct"])]
        result.figures[f"bf16-sums-{name}.svg"] = svg.lines(f"bf16: relative error after {step} steps",
                                                             svg.Axis("ranks", log=True, ticks=[(2 ** k, 2 ** k) for k in range(1, 10)]),
                                                           svg.Axis("relative error", log=True), series)
    return result
