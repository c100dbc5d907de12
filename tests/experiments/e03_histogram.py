"""Under n-softsync gradients are n updates stale in the mean, and hardly any 2 n (Zhang, Gupta, Lian, Liu 2016, fig. 1)."""
import lab
import svg
from e02_staleness import AWARE, settings

TITLE = "How stale gradients are"


def run(place):
    seeds, epochs = place.seeds(5, 1), 1 if place.brief else 3
    result = lab.Result(header=["n", "gradients", "mean staleness", "largest", "of all, above 2 n"])
    shares = {}
    for n in (1, 6, 15, 30):
        counts, means = {}, []
        for seed in seeds:
            one = lab.staleness(place.train(settings(n, AWARE, seed, epochs), seed=seed))
            means.append(sum(s * c for s, c in one.items()) / sum(one.values()))
            for s, c in one.items():
                counts[s] = counts.get(s, 0) + c
        total, largest = sum(counts.values()), max(counts)
        above = sum(c for s, c in counts.items() if s > 2 * n)
        shares[n] = {s: c / total for s, c in counts.items()}
        result.rows.append((n, total, lab.text_of(means, 3), largest, above))
        result.check(f"n = {n}: mean staleness", f"{lab.mean(means):.3f}", f"{n}, within 10 %", all(abs(m / n - 1) <= 0.1 for m in means))
        result.check(f"n = {n}: largest staleness", str(largest), f"≤ {2 * n}", largest <= 2 * n)
    series = [svg.Series(f"n = {n}", [(s, shares[n].get(s, 0)) for s in range(0, max(shares[n]) + 2)]) for n in shares]
    result.figures["staleness-histogram.svg"] = svg.lines("30 learners, ±20 % jitter: staleness of gradients", svg.Axis("updates since the parameters were read"),
                                                          svg.Axis("share of gradients", least=0), series)
    return result
