"""Sharded parameters are replicas in less memory: the same bits, and no more bytes than each stage must send."""
import lab
import svg

TITLE = "Sharded parameters: the same training in less memory"
DEPTH, WIDTH = 11, 300
PARAMETERS = 784 * WIDTH + WIDTH + (DEPTH - 1) * (WIDTH * WIDTH + WIDTH) + WIDTH * 10 + 10
# All-reduce, or reduce-scatter and all-gather; stage 3 gathers twice, but for the two layers that are still there when the
# backward pass begins, and the first layer, which the backward pass does not read.
FLOATS = {0: 2 * PARAMETERS, 1: 2 * PARAMETERS, 2: 2 * PARAMETERS, 3: 3 * PARAMETERS - 2 * WIDTH * (WIDTH + 1) - (784 * WIDTH + WIDTH)}
MIB = 2 ** 20


def run(place):
    base = {"model.type": "mlp", "model.hidden": [WIDTH] * DEPTH, "optimizer.type": "adam", "schedule.learning_rate": 0.001, "data.global_batch": 64,
            "train.deterministic": True, "exchange.algorithm": "direct", "exchange.rank_order": True, "exchange.bucket_mib": 0.5,
            "exchange.first_bucket_mib": 0.5, "train.epochs": 9}

    def updater(stage):
        return {"train.updater": "sharded", "updater.stage": stage} if stage else {}

    def bytes_per_step(ranks, stage):
        short, long = (place.train(base | updater(stage) | {"train.max_steps": n}, ranks=ranks)["bytes"] for n in (4, 14))
        return (long - short) / 10

    result = lab.Result(header=["ranks", "updater", "loss and weights", "optimizer, MiB", "gradients, MiB", "parameters, MiB", "sent per step / formula"])
    steps, counts = (20, (4,)) if place.brief else (100, (2, 4, 8))
    names = {0: "replicas", 1: "stage 1", 2: "stage 2", 3: "stage 3"}
    memory = [svg.Series(names[s], []) for s in names]
    sent = [svg.Series(names[s], []) for s in names]
    for ranks in counts:
        expected, whole = None, None
        for stage in names:
            file = place.folder / "parameters"
            outcome = place.train(base | updater(stage) | {"train.max_steps": steps, "train.log_every": 1}, ranks=ranks, parameters=file)
            curve = [line["train/loss"] for line in outcome["metrics"] if "train/loss" in line], file.read_bytes()
            expected = expected or curve
            held = {key: max(rank["memory_bytes"][key] for rank in outcome["summary"]["ranks"]) for key in ("slots", "gradients", "parameters")}
            whole = whole or held["slots"]
            formula = 4 * FLOATS[stage] * (ranks - 1)
            ratio = bytes_per_step(ranks, stage) / formula
            result.rows.append((ranks, names[stage], "the same bits" if curve == expected else "others",
                                *(f"{held[key] / MIB:.2f}" for key in ("slots", "gradients", "parameters")), f"{ratio:.4f}"))
            memory[stage].points.append((ranks, sum(held.values()) / MIB))
            sent[stage].points.append((ranks, ratio * formula / ranks / MIB))
            if stage:
                result.check(f"{ranks} ranks, stage {stage}: {len(curve[0])} losses and all weights",
                             "the same" if curve == expected else "others", "the bits of replicas", curve == expected)
                share = held["slots"] / whole * ranks
                result.check(f"{ranks} ranks, stage {stage}: optimizer bytes · N / whole", f"{share:.4f}", "≤ 1.05", share <= 1.05)
            result.check(f"{ranks} ranks, {names[stage]}: bytes / formula", f"{ratio:.4f}", "0.98 to 1.02", 0.98 <= ratio <= 1.02)
    axis = svg.Axis("ranks", log=True, ticks=[(n, n) for n in counts])
    if not place.brief:
        result.figures["sharded-memory.svg"] = svg.lines("Parameters, gradients and optimizer state of a rank", axis, svg.Axis("MiB", least=0), memory)
        result.figures["sharded-bytes.svg"] = svg.lines("Sent by a rank per step", axis, svg.Axis("MiB", least=0), sent, legend_at_bottom=True)
    return result
