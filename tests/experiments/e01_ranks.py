"""N synchronous ranks compute what one rank computes with the whole batch."""
import array

import lab
import svg

TITLE = "N ranks are one rank with a big batch"


def run(place):
    steps, counts = (20, (1, 3)) if place.brief else (200, (1, 2, 4, 8))
    settings = lab.MLP | {"data.global_batch": 128, "train.max_steps": steps, "train.epochs": 9, "schedule.learning_rate": 0.05,
                          "train.deterministic": True, "train.check_replicas": True, "exchange.algorithm": "direct", "exchange.rank_order": True}

    def weights(ranks):
        file = place.folder / "parameters"
        place.train(settings, ranks=ranks, parameters=file)      # fails if replicas differ in a bit after any step
        values = array.array("f")
        values.frombytes(file.read_bytes())
        return values

    one, points, replays = weights(1), [], []
    largest = max(abs(w) for w in one)
    result = lab.Result(header=["ranks", "largest difference of a weight", "relative to the largest weight", "bits in a second run"])
    for ranks in counts:
        first = weights(ranks)
        replays.append(first.tobytes() == weights(ranks).tobytes())
        difference = max(abs(a - b) for a, b in zip(first, one))
        result.rows.append((ranks, f"{difference:.2e}", f"{difference / largest:.2e}", "the same" if replays[-1] else "others"))
        points.append((ranks, difference / largest))
    result.check(f"largest relative difference after {steps} steps", f"{max(p[1] for p in points):.1e}", "≤ 1e-5", max(p[1] for p in points) <= 1e-5)
    result.check("replicas equal bit by bit after every step", "yes", "all ranks", True)
    result.check("a second run gives the same bits", f"{sum(replays)} of {len(counts)}", "all", all(replays))
    result.figures["ranks.svg"] = svg.lines("Weights after training: distance from one rank's", svg.Axis("ranks", log=True, ticks=[(r, r) for r in counts[1:]]),
                                            svg.Axis("largest difference / largest weight", log=True), [svg.Series("difference", points[1:])])
    return result
