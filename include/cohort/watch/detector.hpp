#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cohort/base/options.hpp"
#include "cohort/watch/watched_rank.hpp"

namespace cohort {

/// The [watchdog] section.
struct DetectorOptions {
  double timeout = 60;   ///< seconds that a rank may be silent, or be waited for; 0: no watchdog
  std::string interface = "auto";   ///< where ranks of other machines reach the watchdog: "auto", "all", a name, an address, a network

  DetectorOptions() = default;
  explicit DetectorOptions(Section& section);

  /// Seconds between two heartbeats of a rank.
  [[nodiscard]] double period() const noexcept;
  /// How long other waits of a rank may last (`Communicator::set_timeout`): long enough that the verdict, which knows more, comes first.
  [[nodiscard]] double communicator_timeout() const noexcept;
};

/// What was decided about the job's ranks.
struct Verdict {
  enum class Kind : std::uint8_t {
    none,     ///< all is well
    failed,   ///< a rank has reported an error of its own; it prints that itself
    lost,     ///< a rank has ended, does not answer or holds up the others; has been printed
    excluded, ///< of this rank alone: the others go on without it. It should end, and leave them in peace
  };
  Kind kind = Kind::none;
  std::string text;
};

/// Names the rank that is in trouble, so that a job ends with a reason instead of hanging. MPI itself reports nothing when
/// a rank dies, so this uses connections of its own: a thread of every rank tells a coordinator, a thread of rank 0, over
/// TCP what the rank is doing; rank 1 has a second one that watches rank 0. A connection that closes without a goodbye,
/// silence, and waits that do not end lead to a verdict, one for the whole job: it is logged once and sent to all ranks,
/// where it sets the rank's cancel flag, so that every wait throws it. No thread here ever calls MPI.
///
/// Ranks that may be lost (`WatchedRank::membership`) lead to no such verdict. The coordinator names the one that is in
/// trouble, whether it has ended, failed, is silent for longer than the membership's `heartbeat_timeout` or holds up the
/// others, and enters it in the membership of every rank. If it still runs, its verdict is `excluded`, and its waits end.
///
/// A rank that ends is noticed within 0.3 s where its system closes its connections, else after `timeout`. Time in which the
/// whole job was suspended does not count.
class Detector {
 public:
  /// Collective. `rank` is this rank of the whole job (`watched`). `last_resort` is called by a thread of the detector
  /// `kGrace` seconds after a verdict that this rank has not acknowledged because it is stuck outside any wait; it should
  /// end the process. Where ranks cannot connect to each other this only warns: then long waits alone end the job.
  Detector(WatchedRank rank, const DetectorOptions& options, std::function<void(const Verdict&)> last_resort);
  /// Of a process that takes a lost rank's place (`watched_replacement`). Error unavailable if it cannot connect to rank 0.
  [[nodiscard]] static std::unique_ptr<Detector> of_replacement(WatchedRank rank, const DetectorOptions& options,
                                                                std::function<void(const Verdict&)> last_resort);
  Detector(const Detector&) = delete;
  Detector& operator=(const Detector&) = delete;
  /// Stops the threads. For the other ranks this one has ended, unless all have left by `close`.
  ~Detector();

  /// Collective. The ordinary end of this rank's part; returns when all that are not lost have come to theirs, whenever that
  /// is. Error cancelled with the verdict if one does not.
  void close();

  /// Tells the others why this rank is about to end; never blocks. They end with that reason, unless all fail within a
  /// second.
  void report_failure(const std::string& reason);
  /// Says that this rank has noticed the verdict and ends by itself.
  void acknowledge() noexcept;

  /// Any thread.
  [[nodiscard]] Verdict verdict() const;
  /// False with one rank, with timeout 0, and where ranks could not connect.
  [[nodiscard]] bool active() const noexcept;

  static constexpr double kGrace = 1;

 private:
  class Member;
  explicit Detector(std::unique_ptr<Member> member);
  std::unique_ptr<Member> member_;   // null: not active
};

}  // namespace cohort
