#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/watch/detector.hpp"
#include "cohort/watch/waiting.hpp"

namespace cohort {

/// What a rank says of itself in every heartbeat; sent as it lies in memory.
struct Report {
  std::array<char, 32> operation{};   // what it waits in; empty: it does not wait
  std::int64_t wait_step = -1;
  std::int64_t step = -1;             // that it is at
  double since = 0;                   // by its own clock: only tells one wait from the next
  std::int32_t wait_bucket = -1;
  std::int32_t peer = -1;
  std::int32_t bucket = -1;
  std::int32_t unused = 0;
  std::array<char, 48> file{};        // that it waits for until it is on the disk; empty: none
  double megabytes_per_second = 0;    // to it
  std::int64_t moves = 0;             // another number: the disk has done something

  Report() = default;
  Report(const WaitStatus& wait, StepPosition position, const DiskProgress* disk = nullptr);
  [[nodiscard]] bool writes() const noexcept { return file[0] != '\0'; }
  [[nodiscard]] bool waits() const noexcept { return operation[0] != '\0'; }
  /// "all_reduce of bucket 3 at step 17"
  [[nodiscard]] std::string wait_text() const;
  /// "writing step-0000000017.h5, 12.3 MB/s", "all_reduce of bucket 3 at step 17", "bucket 3 of step 17", "step 17", "no step yet"
  [[nodiscard]] std::string place_text() const;
};

/// What the coordinator knows of a rank. All times are its own clock's.
struct RankView {
  std::string host;
  bool connected = false;
  bool left = false;                  ///< said goodbye: it has done its part, and waits for the others' end
  bool ended = false;                 ///< its connection closed before all had left
  bool may_be_lost = false;           ///< then the others go on without it
  bool lost = false;                  ///< and do so: nothing about it is of interest any more
  double patience = 0;                ///< seconds that it may be silent; 0: the timeout
  double lost_after = 0;              ///< seconds of silence that made it lost; 0: something else did
  std::int32_t losses = 0;            ///< of the rank, by now
  double awaited_since = 0;           ///< when a process was to take its place; 0: it is the first one there
  std::string failure;                ///< its error, if it has reported one
  std::string failed_in;              ///< where it was then
  Report report;
  double heard = 0;                   ///< when it last said anything
  double waiting_since = 0;           ///< when the wait of the report was first seen
  double left_at = 0, ended_at = 0, failed_at = 0;
  double patient_since = 0;           ///< when it was asked to speak that often
  double moved_at = 0;                ///< when its file was last seen to move

  /// How long it has said nothing, as far as that tells something.
  [[nodiscard]] double silent_for(double now) const noexcept { return now - std::max(heard, patient_since); }

  /// True if it waits for a file, which moves.
  bool hear(const Report& next, double now);
  /// The coordinator itself has not run for `seconds`: nobody else is late because of that.
  void forgive(double seconds) noexcept;
};

/// Who is in trouble, and how that shows.
struct Trouble {
  enum class Kind : std::uint8_t {
    ended,    ///< its connection has closed
    failed,   ///< it has reported an error
    silent,   ///< it says nothing any more
    late,     ///< others wait for it
    circle,   ///< the ranks wait for each other
  };
  Kind kind = Kind::ended;
  std::vector<int> ranks;             ///< at least one; none for a circle
  double seconds = 0;                 ///< of the longest wait: late, circle
  bool silent = false;                ///< late: they do not answer either
};

/// Finds the ranks in trouble, if there are any. `only`: a rank that alone may be judged, -1: all of them but lost ones.
///  - Ended without a word: at once, but `kSettle` later, when the others have said where they wait for it; a rank that may
///    be lost after `kLossSettle`.
///  - Failed with an error: after `kAllFail`, unless all ranks fail (then they conclude without us).
///  - Silent for longer than `timeout`, or than its own patience.
///  - Others have waited for it longer than `timeout`, or for a short while if it has left.
///  - It waits for a file that has not moved for longer than `timeout`.
[[nodiscard]] std::optional<Trouble> find_trouble(std::span<const RankView> ranks, double now, double timeout,
                                                  int only = -1);

/// The end of the job because of it.
[[nodiscard]] Verdict verdict_on(std::span<const RankView> ranks, const Trouble& trouble, double now);

/// What is to be said of one of the trouble's ranks alone.
[[nodiscard]] std::string trouble_text(std::span<const RankView> ranks, const Trouble& trouble, int rank, double now);

/// True while a rank has ended and its verdict is due soon: fresh reports make it better.
[[nodiscard]] bool settling(std::span<const RankView> ranks, int only = -1);

/// True when every rank has done its part, or is lost.
[[nodiscard]] bool all_left(std::span<const RankView> ranks) noexcept;
/// The others go on without the rank from here on: their waits for it end now, and nobody is late because of them.
void mark_lost(std::span<RankView> ranks, int rank, double now);
/// One that was to take a lost rank's place and has not connected within `patience` seconds has ended, like one whose connection
/// closes.
void miss_replacements(std::span<RankView> ranks, double now, double patience);

inline constexpr double kSettle = 0.25, kLossSettle = 0.05;
inline constexpr double kAllFail = 1;

}  // namespace cohort
