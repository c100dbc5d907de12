#pragma once

#include <cstdint>
#include <string>

#include "cohort/base/options.hpp"

namespace cohort {

/// The [train] section.
struct TrainOptions {
  std::string directory = "runs/train";   ///< of metrics, checkpoints, TensorBoard log; a fresh run never reuses one
  std::int64_t epochs = 1;
  std::int64_t max_steps = 0;              ///< 0: no limit but the epochs
  std::uint64_t seed = 1;                  ///< of initial values, dropout
  std::string device = "CPU:0";
  int threads = 0;                         ///< of kernels; 0: this rank's share of the cores that the launcher gave
  bool deterministic = false;              ///< the same bits for any threads, buckets, overlap
  std::string precision = "fp32";          ///< or "bf16", "bf16_native": of what enters products, see exec's Precision
  std::string updater = "sync_replicas";
  std::int64_t accumulate = 1;             ///< batches per update
  double clip_norm = 0;                    ///< 0: no clipping
  std::int64_t max_skipped = 20;           ///< steps in a row with gradients that are not finite before the run gives up
  std::int64_t log_every = 20;             ///< steps
  std::int64_t validate_every = 1;         ///< epochs; 0: only at the end
  bool check_replicas = false;             ///< compare a hash of the parameters between the ranks after every step

  TrainOptions() = default;
  explicit TrainOptions(Section& section);
};

/// The [checkpoint] section.
struct CheckpointOptions {
  std::int64_t every_steps = 0;            ///< 0: at the end of epochs only
  std::int64_t every_epochs = 1;           ///< 0: never at the end of an epoch
  int keep = 3;

  CheckpointOptions() = default;
  explicit CheckpointOptions(Section& section);
};

/// The [warmup] section: short for a first phase in which few replicas train and the other ranks follow.
struct WarmupOptions {
  int replicas = 1;
  std::int64_t epochs = 0;                 ///< 0: no warm-up

  WarmupOptions() = default;
  explicit WarmupOptions(Section& section);
};

/// An entry of [[phase]]: some epochs that are trained in one way. In [phase.updater] `type` names another updater than
/// train.updater, beside its options.
struct PhaseOptions {
  std::int64_t epochs = 0;                 ///< 0: all that are left, in the last one only
  int replicas = 0;                        ///< the first so many ranks train, the others follow; 0: all
  std::int64_t batch = 0;                  ///< samples per rank and step; 0: as [data] says

  PhaseOptions() = default;
  explicit PhaseOptions(Section& section);
};

}  // namespace cohort
