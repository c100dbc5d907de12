"""Rounding at every hop of a ring makes an error that grows with the root of the number of ranks; trees and owners do not."""
import lab
import svg

TITLE = "Errors: the ring's grow as the root of N, others stay"
ALGORITHMS = ("direct", "recursive_halving", "ring")


def errors_of(answer, codec):
    found = {name: [] for name in ALGORITHMS}
    for row in answer["errors"]:
        if row["codec"] == codec:
            found[row["algorithm"]].append((row["ranks"], row["error"]))
    return found


def run(place):
    result = lab.Result()
    largest = 64 if place.brief else 512
    for step, name in ((20, "early"),) if place.brief else ((20, "early"), (1500, "late")):
        answer = place.run("errors", "--step", step, "--largest", largest)
        errors = errors_of(answer, "int8")
        result.header = ["int8, relative error, %", *(f"N = {ranks}" for ranks, _ in errors["ring"]), "slope"]
        for algorithm, points in errors.items():
            result.rows.append((f"{algorithm}, {name}", *(f"{100 * e:.2f}" for _, e in points), f"{lab.slope(points):.3f}"))
        for algorithm in ("direct", "recursive_halving"):
            result.check(f"{name}: slope of {algorithm}", f"{lab.slope(errors[algorithm]):.3f}", "between −0.1 and 0.1", abs(lab.slope(errors[algorithm])) < 0.1)
        slope = lab.slope(errors["ring"])
        low, high = (0.3, 0.7) if place.brief else (0.4, 0.6)
        result.check(f"{name}: slope of ring", f"{slope:.3f}", f"{low} to {high}", low <= slope <= high)
        ratio, least = errors["ring"][-1][1] / errors["direct"][-1][1], 3 if place.brief else 5
        result.check(f"{name}: ring / direct at N = {largest}", f"{ratio:.1f}", f"> {least}", ratio > least)
        apart = max(abs(row["exchanged"] / row["error"] - 1) for row in answer["errors"] if "exchanged" in row)
        result.check(f"{name}: error of the collectives themselves at N = 8, off by", f"{apart:.1e}", "≤ 1e-3", apart <= 1e-3)
        result.figures[f"rounding-{name}.svg"] = svg.lines(
            f"int8, {answer['elements']} gradients after {step} steps", svg.Axis("ranks", log=True, ticks=[(2 ** k, 2 ** k) for k in range(1, 10)]),
            svg.Axis("relative error", log=True), [svg.Series(a, p) for a, p in errors.items()])
    return result
