#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/params/parameters.hpp"

namespace cohort {

/// Where parameters that the ranks keep in blocks are whole while somebody reads them: a few slots, into which a bucket is
/// gathered ahead of its use and where the next one replaces it (stage 3 of ZeRO, Rajbhandari et al., SC20). What is fetched
/// ahead is what the step at hand reads next. All ranks ask for the same parameters in the same order.
class ParameterWindow {
 public:
  /// Collective. The parameters are laid out and not yet placed; `graph` tells which of them one node reads at once.
  ParameterWindow(Communicator& communicator, const Parameters& parameters, const Graph& graph, std::span<const FlatRange> buckets,
                  const CollectiveOptions& options);

  /// Where parameter p lies while it is here.
  [[nodiscard]] Tensor window(Device& device, std::size_t p) const;

  /// A run begins that asks for parameters in this order, which outlives it.
  void follow(std::span<const std::size_t> order) noexcept {
    order_ = order;
    asked_ = 0;
  }
  /// Collective. Waits until all of them are here; then they stay until others are asked for. Starts to fetch what comes next in the run.
  /// Error internal if they are not what comes next in its order.
  void need(std::span<const std::size_t> parameters);
  /// Drives what is being fetched; never blocks.
  void poll();
  /// Collective. The blocks have changed: nothing is here any more.
  void invalidate();

  [[nodiscard]] std::int64_t bytes() const noexcept;
  [[nodiscard]] std::int64_t gathers() const noexcept { return gathers_; }      ///< so many have begun
  [[nodiscard]] std::size_t slots() const noexcept { return slots_.size(); }
  [[nodiscard]] std::string text() const { return collective_->describe(); }
  [[nodiscard]] bool exact() const { return collective_->options().codec->exact(); }      ///< do parameters travel in float32?

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  struct Slot {
    Buffer memory{};
    std::int64_t n = 0;                // elements: the largest of its buckets
    std::size_t holds = kNone;
  };
  struct Part {
    FlatRange range;
    std::size_t slot = 0;
    Work* gather = nullptr;
  };

  void choose_slots(const Graph& graph);
  [[nodiscard]] bool here(std::size_t part) const { return slots_[parts_[part].slot].holds == part; }
  void start(std::size_t part);
  void finish();
  void fetch_ahead(std::span<const std::size_t> parameters);

  const Parameters& parameters_;
  std::vector<Part> parts_;            // by bucket
  std::vector<std::size_t> part_of_;   // by parameter
  std::vector<Slot> slots_;            // outlive the collective
  std::unique_ptr<Collective> collective_;
  std::size_t coming_ = kNone;         // what is being gathered
  std::span<const std::size_t> order_; // of the run at hand
  std::size_t asked_ = 0;              // so many of these
  std::int64_t gathers_ = 0;
};

}  // namespace cohort
