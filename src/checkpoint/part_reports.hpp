#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cohort/comm/communicator.hpp"

namespace cohort {

/// What a rank's file of a checkpoint holds of one tensor.
struct PieceMark {
  std::int64_t begin = 0, n = 0;
  std::uint32_t crc = 0, unused = 0;
};

/// How rank 0 learns, while the ranks train on, whose files of a checkpoint are on the disk: one message from each other rank,
/// which is looked for and never waited for. One thread, the same as for the communicator.
class PartReports {
 public:
  explicit PartReports(Communicator& ranks) : ranks_(ranks) {}

  /// The next checkpoint has this many tensors in pieces; the same on all ranks. The last one must be complete.
  void expect(std::size_t tensors);
  /// This rank has come to its end; `marks`: one per tensor, or null if it failed.
  void report(const std::vector<PieceMark>* marks);
  /// Never blocks. True when nothing more has to be sent or received here.
  [[nodiscard]] bool complete();
  /// Bounded.
  void wait_until_complete();
  /// On rank 0, once complete: no rank has failed.
  [[nodiscard]] bool all_written() const;
  /// On rank 0, once complete: the marks of one tensor by rank.
  [[nodiscard]] std::vector<PieceMark> marks_of(std::size_t tensor) const;

 private:
  [[nodiscard]] std::span<PieceMark> of(int rank);       // [0]: n is 1 if it was written

  Communicator& ranks_;
  std::size_t length_ = 0;
  bool reported_ = true;
  std::vector<PieceMark> marks_;                         // of all ranks on rank 0, of this one elsewhere
  std::vector<Transfer> transfers_;
};

}  // namespace cohort
