#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "cohort/comm/progress.hpp"
#include "cohort/tensor/dtype.hpp"

namespace cohort {

enum class Operation : std::uint8_t { all_reduce, reduce_scatter, all_gather };
[[nodiscard]] const char* name(Operation operation) noexcept;

/// What a rank is about to do with a bucket: 32 bytes that must be equal on all ranks.
struct OperationHeader {
  std::int64_t step = 0;
  std::uint64_t count = 0;
  std::int32_t bucket = 0;
  DType dtype = DType::float32;
  Operation operation = Operation::all_reduce;
  std::uint16_t unused = 0;
  std::uint64_t configuration = 0;   ///< hash of algorithm, codec and memory layout

  auto operator<=>(const OperationHeader&) const = default;
};
static_assert(sizeof(OperationHeader) == 32);

/// Makes sure that all ranks are about to do the same: a mismatch is known, alike, to all of them before any payload moves.
/// Also a barrier: when it ends, all ranks have started. ceil(log2 p) messages of 64 bytes per rank, carrying the
/// least and the greatest header heard of; only if these differ all headers are exchanged, for the message.
class Agreement : public FrameOwner {
 public:
  explicit Agreement(Communicator& communicator);

  /// `tag` is the same on all ranks and not used by another agreement at the same time.
  void start(const OperationHeader& mine, int tag);
  /// Never blocks; true when it is known whether all ranks agree.
  bool advance() { return progress_.advance(); }
  /// After the end: empty if they agree, else who differs in what, the same text on all ranks.
  [[nodiscard]] const std::string& mismatch() const noexcept { return mismatch_; }
  [[nodiscard]] int peer() const { return progress_.peer(); }
  void reset() noexcept { progress_.reset(); }

 private:
  struct Range {
    OperationHeader least, greatest;
  };
  Progress run();

  Communicator* communicator_;
  OperationHeader mine_;
  int tag_ = 0;
  Range heard_, sent_, came_;
  std::vector<OperationHeader> all_;   // only filled on a mismatch
  Transfer in_, out_;                  // after what they send and receive, so that they end before it
  std::string mismatch_;
  Progress progress_;
};

/// "the ranks are not about to do the same: count is 1000 on rank 2, 999 on ranks 0 1 3 (all_reduce of bucket 5 at step 12)"
[[nodiscard]] std::string mismatch_text(const std::vector<OperationHeader>& headers);

}  // namespace cohort
