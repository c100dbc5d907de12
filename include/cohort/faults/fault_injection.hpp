#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cohort/base/options.hpp"

namespace cohort {

class Communicator;

/// One thing that goes wrong on purpose, an entry of [[fault]] in a job file: for tests, and for studies of stragglers and bad
/// lines.
struct Fault {
  enum class Kind : std::uint8_t {
    none,        ///< nothing: an entry that is switched off
    delay,       ///< a message leaves `seconds` later; those behind it to the same peer with the same tag wait for it
    drop,        ///< a message is never sent, and the sender does not notice
    duplicate,   ///< a message is sent twice
    kill,        ///< at the beginning of a step the process gets SIGKILL; a rank that is a thread ends with Error cancelled
    pause,       ///< at the beginning of a step the whole process is stopped for `seconds`; a rank that is a thread sleeps
    slow,        ///< at the beginning of a step the rank that trains sleeps for `seconds`; its other threads go on
  };
  Kind kind = Kind::none;
  std::vector<std::int64_t> ranks{};      ///< of the job, on which it happens; empty: all
  std::vector<std::int64_t> peers{};      ///< of the job, to which the messages go; empty: all
  std::int64_t from_step = 0;             ///< messages before a run's first step are of step -1
  std::int64_t until_step = 0;            ///< the first step without it; 0: for ever
  double probability = 1;                 ///< of each message, or of each step
  double seconds = 0;
  std::uint64_t seed = 0;

  [[nodiscard]] static Fault from(Section& section);
  /// delay, drop and duplicate; the others befall a rank at the beginning of a step.
  [[nodiscard]] bool of_messages() const noexcept { return kind == Kind::delay || kind == Kind::drop || kind == Kind::duplicate; }
  [[nodiscard]] bool on(int rank, std::int64_t step) const noexcept;
  [[nodiscard]] std::string text() const;   ///< "slow by 0.5 s on rank 3 from step 10"
};

/// All faults of a job. What happens is a pure function of the entry (its seed and its place in the list) and of what it may
/// befall, so that a run replays; of several faults that meet, delays and sleeps add up and a drop wins. Immutable: any thread.
class FaultPlan {
 public:
  /// Error invalid_argument for what makes no sense in a job of so many ranks.
  FaultPlan(std::vector<Fault> faults, int ranks);
  /// The [[fault]] entries of a job file; null if there are none.
  [[nodiscard]] static std::shared_ptr<const FaultPlan> from(Section& root, int ranks);

  struct Message {
    int rank = 0, peer = 0;         ///< of the job
    std::int64_t step = 0;          ///< where the sender was
    std::uint64_t group = 0;        ///< which communicator of the rank
    int tag = 0;
    std::int64_t number = 0;        ///< among those of this group, peer and tag in this step
  };
  struct MessageFate {
    int copies = 1;                 ///< 0: dropped
    double delay = 0;               ///< seconds
  };
  [[nodiscard]] MessageFate fate(const Message& message) const;

  struct StepFate {
    bool killed = false;
    double pause = 0, slow = 0;     ///< seconds
  };
  [[nodiscard]] StepFate fate(int rank, std::int64_t step) const;

  [[nodiscard]] bool meets_messages_of(int rank) const;
  [[nodiscard]] bool meets_messages() const;
  [[nodiscard]] bool drops_or_duplicates() const;
  [[nodiscard]] std::string text() const;   ///< all entries

 private:
  std::vector<Fault> faults_;
};

/// Lets the plan's faults befall this rank, and messages of this communicator and of all made from it afterwards; once, with the
/// same plan on all ranks, while nothing is under way. What moves no messages meets no faults of messages: shared windows, and
/// the library's collectives. Faults of steps happen in `Communicator::begin_step`: Error cancelled where they kill a rank that
/// is a thread.
void inject(Communicator& communicator, std::shared_ptr<const FaultPlan> plan);

}  // namespace cohort
