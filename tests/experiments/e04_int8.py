"""int8 and bf16 gradients train as well as float32 ones."""
import lab
import svg

TITLE = "8-bit gradients cost no accuracy"
WIRES = (("fp32", "fp32", "off"), ("bf16", "bf16", "off"), ("int8", "int8", "off"), ("int8 + feedback", "int8", "on"))


def cases(place):
    """Settings, the metric (larger is better), seeds."""
    accuracy = ("accuracy, %", lambda r: r["percent"])
    yield "MLP", lab.MLP | {"data.global_batch": 128, "schedule.learning_rate": 0.05, "train.epochs": 1 if place.brief else 2}, accuracy, place.seeds()
    if place.brief:
        return
    yield "LeNet", lab.LENET | {"data.global_batch": 128, "schedule.learning_rate": 0.02, "train.epochs": 1}, accuracy, place.seeds(3)
    if lab.FORTUNES.is_dir():
        gpt = {"model.type": "gpt", "model.layers": 2, "model.width": 64, "model.heads": 2, "data.global_batch": 16, "train.max_steps": 200,
               "train.epochs": 1, "optimizer.type": "adam", "schedule.learning_rate": 0.003, "data.validation.limit": 500}
        yield "GPT", gpt | place.prose(64), ("−100 · loss, nats per byte", lambda r: -100 * r["validation_loss"]), place.seeds(3)


def eligible_ratio(place, settings, codec):
    """Bytes on the wire against float32's, at the transport, in the steps that differ between a longer and a shorter run."""
    def per_step(settings):
        short, long = (place.train(settings | {"train.max_steps": n, "train.epochs": 9}, ranks=place.ranks)["bytes"] for n in (4, 14))
        return (long - short) / 10
    return per_step(settings | lab.CODED | {"exchange.codec": codec}) / per_step(settings | lab.CODED | {"exchange.codec": "fp32"})


def run(place):
    result = lab.Result(header=["model", "metric", "seeds", *(name for name, _, _ in WIRES)])
    groups, bars = [], [svg.Series(name, []) for name, _, _ in WIRES[1:]]
    for model, settings, (metric, of), seeds in cases(place):
        found = [[of(place.train(settings | lab.CODED | {"schedule.type": "cosine", "exchange.codec": codec,
                                                         "exchange.error_feedback": feedback}, ranks=place.ranks, seed=seed))
                  for seed in seeds] for _, codec, feedback in WIRES]
        paired = [lab.differences(values, found[0]) for values in found[1:]]
        result.rows.append((model, metric, len(seeds), lab.text_of(found[0]), *(lab.text_of(d, signed=True) for d in paired)))
        for (name, _, _), difference, bar in zip(WIRES[1:], paired, bars):
            bar.points.append((len(groups), lab.mean(difference), lab.error_of_mean(difference)))
            least = -4.0 if place.brief else -0.3
            result.check(f"{model}, {name} − fp32", lab.text_of(difference, signed=True), f"≥ {least}", lab.mean(difference) >= least)
        groups.append(model)
    # Wide enough that the words and headers of a step do not count.
    wide = {"model.type": "mlp", "model.hidden": [1024], "data.global_batch": 128, "schedule.learning_rate": 0.05}
    for codec, most in (("int8", 0.26), ("bf16", 0.51)):
        ratio = eligible_ratio(place, wide, codec)
        result.check(f"bytes of {codec} / fp32, 784-1024-10, {place.ranks} ranks", f"{ratio:.4f}", f"≤ {most}", ratio <= most)
    result.figures["int8.svg"] = svg.bars("Final metric against float32's, paired by seed", svg.Axis("points", least=-0.6, most=0.6), groups, bars, band=(-0.3, 0.6))
    return result
