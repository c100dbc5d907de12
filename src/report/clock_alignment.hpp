#pragma once

#include <vector>

#include "cohort/base/clock.hpp"
#include "cohort/comm/communicator.hpp"

namespace cohort {

/// How one rank's clock stands to rank 0's, measured once.
struct ClockOffset {
  double at = 0;              ///< this rank's clock when it was measured
  double seconds = 0;         ///< this rank's clock minus rank 0's
  double uncertainty = 0;     ///< half of the shortest round trip: the true offset is no farther away
};

/// Collective. Every rank's offset, the same on all ranks: rank 0 sends each rank in turn `rounds` empty messages and gets
/// the time back; the answer of the shortest round trip counts, as it was taken in the middle of it within half its length
/// (D. L. Mills, RFC 5905, section 8). 2·rounds·(p-1) messages.
[[nodiscard]] std::vector<ClockOffset> measure_clock_offsets(Communicator& communicator, const Clock& clock, int rounds = 40);

/// Rank 0's time of a moment of one rank's clock: clocks of two hosts drift apart by some 10 µs per second, so between two
/// measurements the offset goes in a straight line.
class ClockAlignment {
 public:
  ClockAlignment(const ClockOffset& begin, const ClockOffset& end) : begin_(begin), end_(end) {}
  [[nodiscard]] double to_rank_0(double time) const noexcept;

 private:
  ClockOffset begin_, end_;
};

}  // namespace cohort
