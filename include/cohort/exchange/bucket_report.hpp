#pragma once

namespace cohort {

/// What became of one bucket in one step, over all ranks.
struct BucketReport {
  int bucket = 0;
  double bytes = 0;                 ///< sent, by all ranks together
  double ratio = 0;                 ///< to what the same floats are as float32; 0: nothing was sent
  double relative_error = 0;        ///< of the codec, once: |v - decoded| / |v|, v: gradient + residual, norms over all ranks
  double residual_ratio = 0;        ///< |residual| / |gradient| before the exchange; 0 without error feedback
};

}  // namespace cohort
