#include "cohort/comm/control.hpp"
#include "exchange/codec_report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace cohort {

void CodecReport::begin(std::int64_t step, bool compressed) {
  step_ = step;
  reports_.clear();
  observes_ = std::exchange(wanted_, false) && compressed;
}

/// Encodes a copy, some blocks at a time, so that it works for every collective, with and without feedback.
void CodecReport::before_encoding(int id, const Codec& codec, Block part, const float* bucket, const float* residual) {
  if (!observes_) return;
  constexpr std::size_t kStrip = 16 * kBlockUnit;
  std::vector<float> wanted(kStrip), decoded(kStrip);
  std::vector<std::byte> wire(codec.wire_bytes(kStrip));
  Norms& norms = norms_[static_cast<std::size_t>(id)] = {};
  for (std::size_t begin = part.begin; begin < part.end(); begin += kStrip) {
    const std::size_t n = std::min(kStrip, part.end() - begin);
    for (std::size_t i = 0; i < n; ++i) {
      const double given = bucket[begin + i], late = residual == nullptr ? 0.f : residual[begin + i];
      wanted[i] = static_cast<float>(given + late);
      norms.given += given * given;
      norms.residual += late * late;
    }
    codec.encode(wanted.data(), n, wire.data(), nullptr, {.step = step_, .bucket = id, .offset = begin});
    codec.decode(wire.data(), n, decoded.data(), Accumulate::assign, {.step = step_, .bucket = id, .offset = begin});
    for (std::size_t i = 0; i < n; ++i) {
      const double v = wanted[i], lost = v - static_cast<double>(decoded[i]);
      norms.wanted += v * v;
      norms.lost += lost * lost;
    }
  }
}

void CodecReport::end(Communicator& all, const std::function<Traffic(std::size_t bucket)>& sent) {
  if (!observes_) return;
  constexpr std::size_t kNumbers = 6;
  std::vector<double> sums;
  for (std::size_t b = 0; b < norms_.size(); ++b) {
    const Traffic traffic = sent(b);
    const Norms& n = norms_[b];
    sums.insert(sums.end(), {static_cast<double>(traffic.bytes), static_cast<double>(traffic.elements), n.wanted, n.lost, n.given, n.residual});
  }
  all_reduce(all, std::span<double>(sums), Reduce::sum);
  const auto ratio = [](double a, double b) { return b > 0 ? a / b : 0.0; };
  for (std::size_t b = 0; b < norms_.size(); ++b) {
    const double* x = sums.data() + b * kNumbers;
    reports_.push_back({.bucket = static_cast<int>(b), .bytes = x[0], .ratio = ratio(x[0], x[1] * sizeof(float)),
                        .relative_error = std::sqrt(ratio(x[3], x[2])), .residual_ratio = std::sqrt(ratio(x[5], x[4]))});
    if (std::isfinite(x[4])) raise_alarm(all, b);      // else the step is skipped: its residual stays
  }
}

void CodecReport::raise_alarm(Communicator& all, std::size_t bucket) {
  const std::string alarm = alarms_[bucket].observe(reports_.back().residual_ratio);
  if (alarm.empty() || !all.is_root()) return;
  all.context().log.warning(fmt::format("step {}, bucket {}: {}; what is late is applied at a wrong time: try a smaller learning rate, "
                                        "another exchange.codec or exchange.error_feedback = \"off\"", step_, bucket, alarm));
}

}  // namespace cohort
