"""Backup workers take stalls out of synchronous steps (Chen, Pan, Monga, Bengio, Jozefowicz 2016). Times are virtual."""
import math

import lab
import svg

TITLE = "Backup workers cut the tail of step times"
LEARNERS, JITTER, STALLS, FACTOR = 8, 0.04, 0.01, 5
MASK = 0xFFFFFFFF


def philox(seed, stream, index):
    """Philox4x32-10: four words of 32 bits. Written from the paper (Salmon et al. 2011)."""
    c0, c1, c2, c3 = index & MASK, index >> 32, stream & MASK, stream >> 32
    k0, k1 = seed & MASK, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def duration(seed, learner, number):
    """What the program draws for a learner's gradient."""
    words = philox(seed, learner << 40, number)
    first, second = ((words[i] << 32 | words[i + 1]) >> 11 for i in (0, 2))
    return (1 + JITTER * (2 * first * 2.0 ** -53 - 1)) * (FACTOR if second * 2.0 ** -53 < STALLS else 1)


def quantile(values, share):
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def run(place):
    steps, seeds = (500, [1]) if place.brief else (2000, place.seeds(5))
    model = {"model.type": "mlp", "model.hidden": [8]} if place.brief else lab.MLP
    found = {b: [] for b in ((0, 1) if place.brief else (0, 1, 2))}
    for backups, runs in found.items():
        for seed in seeds:
            learners = lab.replay("sync_with_backups", LEARNERS, seed, JITTER, stall_probability=STALLS, stall_factor=FACTOR)
            settings = {"updater.replicas_to_aggregate": LEARNERS - backups, "data.global_batch": 128, "train.max_steps": steps, "train.epochs": 5,
                        "train.log_every": 1, "schedule.type": "cosine", "schedule.learning_rate": 0.05}
            runs.append(place.train(model | learners | settings, seed=seed))
    result = lab.Result(header=["backups", "mean step", "predicted", "p50", "p95", "p99", "gradients dropped", "accuracy, %", "against none"])
    times = {}
    drawn = [sorted(duration(seed, learner, step) for learner in range(LEARNERS)) for seed in seeds for step in range(steps)]
    base = [r["percent"] for r in found[0]]
    for backups, runs in found.items():
        times[backups] = []
        for r in runs:
            ends = [0, *{row["step"]: row["virtual_time"] for row in r["metrics"] if "virtual_time" in row}.values()]
            times[backups] += [end - begin for begin, end in zip(ends, ends[1:])]
        predicted = lab.mean([gradients[LEARNERS - backups - 1] for gradients in drawn])
        p50, p95, p99 = (quantile(times[backups], q) for q in (0.5, 0.95, 0.99))
        mean, accuracy = lab.mean(times[backups]), [r["percent"] for r in runs]
        paired = lab.differences(accuracy, base)
        dropped = sum(lab.last(r, f"workers/{l}/dropped") for r in runs for l in range(LEARNERS))
        applied = sum(lab.last(r, f"workers/{l}/applied") for r in runs for l in range(LEARNERS))
        stale = sum(count for r in runs for s, count in lab.staleness(r).items() if s > 0)
        result.rows.append((backups, f"{mean:.3f}", f"{predicted:.3f}", f"{p50:.3f}", f"{p95:.3f}", f"{p99:.3f}", f"{dropped / (applied + dropped):.2%}",
                            lab.text_of(accuracy), lab.text_of(paired, signed=True) if backups else ""))
        name = "no backups" if backups == 0 else f"{backups} backup" + "s" * (backups > 1)
        if backups == 0:
            result.check("no backups: p95 / median", f"{p95 / p50:.2f}", "≥ 4", p95 >= 4 * p50)
            error = max(abs(took - gradients[-1]) for took, gradients in zip(times[0], drawn, strict=True))
            result.check("no backups: every step takes as long as its slowest gradient, drawn again here", f"{error:.1e}", "< 1e-8", error < 1e-8)
        else:
            result.check(f"{name}: p95 / median", f"{p95 / p50:.2f}", "≤ 1.25", p95 <= 1.25 * p50)
        result.check(f"{name}: mean step / predicted", f"{mean / predicted:.3f}", "within 10 %", abs(mean / predicted - 1) <= 0.1)
        result.check(f"{name}: stale gradients applied", str(int(stale - dropped)), "0", stale == dropped and applied == steps * len(runs) * (LEARNERS - backups))
        if backups == 1 and not place.brief:
            result.check("1 backup: accuracy against none", lab.text_of(paired, signed=True), "within 0.5", abs(lab.mean(paired)) <= 0.5)
    if place.brief:
        return result
    series = []
    for backups, values in times.items():
        series.append(svg.Series(("no", "1", "2")[backups] + " backup" + "s" * (backups != 1), [(quantile(values, i / 400), i / 400) for i in range(340, 401)]))
    result.figures["backup-steps.svg"] = svg.lines("8 learners, 1 % of gradients stall: distribution of step times", svg.Axis("virtual time of a step"),
                                                   svg.Axis("share of steps", least=0.85, most=1), series, legend_at_bottom=True)
    return result
