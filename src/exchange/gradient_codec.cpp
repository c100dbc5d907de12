#include "exchange/gradient_codec.hpp"

#include <fmt/core.h>

#include <utility>

namespace cohort {

std::string GradientCodec::text(bool feeds_back, std::size_t small) const {
  std::string text = name_ + (feeds_back ? " with error feedback" : "");
  if (dense_steps_ > 0) text += fmt::format(" after {} steps in fp32", dense_steps_);
  if (small > 0) text += fmt::format(", {} small tensors in {}", small, small_name_);
  return text;
}

std::string codec_note(const ExchangeOptions& asked, const ParameterLayout& layout, std::int64_t steps, std::string why) {
  const CollectiveOptions& wish = asked.collective;
  if (codec_named(wish.codec_name)->exact()) return {};
  if (why.empty() && steps <= asked.dense_steps)
    why = fmt::format("all {} steps are among the first {} that go in float32 (exchange.dense_steps)", steps, asked.dense_steps);
  if (why.empty() && layout.first_small() == 0)
    why = fmt::format("all tensors are small and go in {} (exchange.small_elements = {}, exchange.small_codec)", asked.small_codec_name, asked.small_elements);
  return why.empty() ? why : fmt::format("exchange.codec = \"{}\" has no effect: {}", wish.codec_name, why);
}

std::string why_no_codec(bool lossy, const Communicator& ranks) {
  if (ranks.size() == 1) return "one rank sends no gradients";
  if (lossy) return {};
  if (ranks.nodes().nodes() == 1) return "all ranks are on one machine, where gradients go in float32, which is faster";
  return "this updater sends no gradients, and what it sends goes in float32";
}

}  // namespace cohort
