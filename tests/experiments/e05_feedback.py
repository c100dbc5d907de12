"""With two bits or one, error feedback decides; and with one it does so at small learning rates only."""
import lab
import svg

TITLE = "Error feedback decides at few bits"
RATES = (0.003, 0.01, 0.05)


def run(place):
    seeds = place.seeds(3, 2)
    settings = lab.MLP | {"data.global_batch": 128, "train.epochs": 1 if place.brief else 2, "schedule.type": "cosine"}

    def accuracies(codec, feedback, rate, others={}):
        more = others | {"exchange.codec": codec, "exchange.error_feedback": feedback, "schedule.learning_rate": rate}
        return [place.train(settings | lab.CODED | more, ranks=place.ranks, seed=seed)["percent"] for seed in seeds]

    found = {}
    wanted = [("ternary", 0.05), ("sign", 0.05), ("sign", 0.01), ("sign", 0.003), ("int8", 0.05)]
    if place.brief:
        wanted = [("ternary", 0.05), ("sign", 0.003)]
    exact = {rate: accuracies("fp32", "off", rate) for rate in {rate for _, rate in wanted}}
    result = lab.Result(header=["codec", "learning rate", "fp32", "without feedback", "with feedback"])
    for codec, rate in wanted:
        for feedback in ("off", "on"):
            found[codec, rate, feedback] = lab.differences(accuracies(codec, feedback, rate), exact[rate])
        result.rows.append((codec, rate, lab.text_of(exact[rate]), *(lab.text_of(found[codec, rate, f], signed=True) for f in ("off", "on"))))

    def check(what, values, band, ok):
        result.check(what, lab.text_of(values, signed=True), band, ok(lab.mean(values)))

    if not place.brief:   # what it is good for that small tensors travel apart
        together = [lab.differences(accuracies("sign", f, 0.01, {"exchange.small_elements": 0}), exact[0.01]) for f in ("off", "on")]
        result.rows.append(("sign, small weights too", 0.01, lab.text_of(exact[0.01]), *(lab.text_of(d, signed=True) for d in together)))

    if place.brief:
        gain = lab.differences(found["ternary", 0.05, "on"], found["ternary", 0.05, "off"])
        check("ternary, η = 0.05: with − without feedback", gain, "≥ 1", lambda v: v >= 1)
        gain = lab.differences(found["sign", 0.003, "on"], found["sign", 0.003, "off"])
        check("sign, η = 0.003: with − without feedback", gain, "≥ 0.3", lambda v: v >= 0.3)
        return result
    check("ternary, η = 0.05, without feedback", found["ternary", 0.05, "off"], "≤ −3", lambda v: v <= -3)
    check("ternary, η = 0.05, with feedback", found["ternary", 0.05, "on"], "≥ −0.8", lambda v: v >= -0.8)
    check("sign, η = 0.01, with feedback", found["sign", 0.01, "on"], "≥ −1.0", lambda v: v >= -1.0)
    check("sign, η = 0.01: with − without feedback", lab.differences(found["sign", 0.01, "on"], found["sign", 0.01, "off"]), "≥ 0.8", lambda v: v >= 0.8)
    check("sign, η = 0.003, with feedback", found["sign", 0.003, "on"], "≥ −1.0", lambda v: v >= -1.0)
    check("sign, η = 0.003: with − without feedback", lab.differences(found["sign", 0.003, "on"], found["sign", 0.003, "off"]), "≥ 0.8", lambda v: v >= 0.8)
    check("sign, η = 0.05, with feedback: fails, and is shown", found["sign", 0.05, "on"], "≤ −1.0", lambda v: v <= -1)
    check("int8, η = 0.05, with feedback", found["int8", 0.05, "on"], "≥ −0.3", lambda v: v >= -0.3)

    def points(codec, feedback, rates):
        return [(rate, lab.mean(found[codec, rate, feedback]), lab.error_of_mean(found[codec, rate, feedback])) for rate in rates]
    series = [svg.Series(f"sign, {'with' if f == 'on' else 'without'} feedback", points("sign", f, RATES)) for f in ("off", "on")]
    result.figures["feedback-rate.svg"] = svg.lines("One bit: accuracy against float32's, by learning rate",
                                                   svg.Axis("learning rate", log=True, ticks=[(r, r) for r in RATES]),
                                                    svg.Axis("points"), series, legend_at_bottom=True)
    codecs = ("sign", "ternary", "int8")
    bars = [svg.Series(f"{'with' if f == 'on' else 'without'} feedback", [(i, *points(c, f, [0.05])[0][1:]) for i, c in enumerate(codecs)]) for f in ("off", "on")]
    result.figures["feedback-bits.svg"] = svg.bars("Accuracy against float32's at η = 0.05, by bits", svg.Axis("points"),
                                                  ["sign, 1 bit", "ternary, 2 bits", "int8, 8 bits"], bars)
    return result
