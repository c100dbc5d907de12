#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/params/parameter_layout.hpp"

namespace cohort {

struct ExchangeOptions {
  double first_bucket_mib = 1;      ///< small, so that communication starts early
  double bucket_mib = 25;
  bool shared_parameters = true;    ///< ranks of a machine keep one copy of the parameters, where they can
  std::string thread = "auto";      ///< "on", "off": from a thread of its own; "auto": where MPI allows it and a core is free
  std::int64_t dense_steps = 100;   ///< with a codec that is not exact: so many first steps of a training travel in float32
  std::string error_feedback = "auto";    ///< "on", "off": keep what the codec loses for the next step; "auto": with codecs that want it
  std::string small_codec_name = "bf16";  ///< with a codec that is not exact: how small tensors travel
  std::int64_t small_elements = 4096;     ///< fewer make a tensor small; so does having one dimension
  bool each_batch = false;  ///< every batch of an update is summed over the ranks by itself, and the sums are added up
  CollectiveOptions collective;

  ExchangeOptions() = default;
  explicit ExchangeOptions(Section& section);
  /// Does a tensor travel as small ones do?
  [[nodiscard]] bool is_small(const Shape& shape) const;
};

/// The buckets: ranges of the flat index space, cut between parameters, and before small ones.
[[nodiscard]] std::vector<FlatRange> bucket_ranges(const ParameterLayout& layout, const ExchangeOptions& options);

/// Where no gradient travels through the codec that is asked for, up to that step: one line for people that says so and why;
/// else empty. `why`: what keeps gradients from it beside the options, if anything does.
[[nodiscard]] std::string codec_note(const ExchangeOptions& asked, const ParameterLayout& layout, std::int64_t steps, std::string why = {});

}  // namespace cohort
