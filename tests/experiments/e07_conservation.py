"""Nothing is lost with error feedback, whatever the codec and the collective."""
import lab
import svg

TITLE = "Error feedback conserves"


def run(place):
    def rows(algorithms, codecs, ranks):
        words = []
        for name, values in (("--algorithm", algorithms), ("--codec", codecs), ("--ranks", ranks)):
            words += [word for value in values for word in (name, value)]
        return place.run("conservation", "--rounds", 30, "--seed", 1, *words)["rows"]

    everything = ("direct", "recursive_halving", "ring", "hierarchical")
    found = rows(everything[:3], ("int8",), (8,)) if place.brief else rows(everything, ("int8", "bf16", "fp16", "ternary", "sign"), (3, 8))
    many = 16 if place.brief else 64
    crowd = rows(everything[:2] if place.brief else everything[:3], ("int8",), (many,))
    result = lab.Result(header=["collective", "codec", "ranks", "invariant, relative", "error of one round, %", "of 30 rounds together, %"])
    for row in found + crowd:
        result.rows.append((row["algorithm"], row["codec"], row["ranks"], f"{row['invariant']:.1e}", f"{100 * row['once']:.3f}", f"{100 * row['cumulative']:.3f}"))
    worst = max(row["invariant"] for row in found + crowd)
    result.check("largest residual of the invariant", f"{worst:.1e}", "< 1e-6", worst < 1e-6)
    for row in crowd:
        result.check(f"{row['algorithm']}, int8, {many} ranks: error of 30 rounds together", f"{100 * row['cumulative']:.3f} %", "< 0.3 %", row["cumulative"] < 0.003)
    result.figures["conservation.svg"] = svg.bars(f"int8 with feedback, {many} ranks: relative error", svg.Axis("per cent", log=True, least=0.005, most=20),
                                                  [row["algorithm"] for row in crowd],
                                                  [svg.Series("one round", [(i, 100 * row["once"]) for i, row in enumerate(crowd)]),
                                                   svg.Series("30 rounds together", [(i, 100 * row["cumulative"]) for i, row in enumerate(crowd)])])
    return result
