#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cohort/comm/communicator.hpp"

namespace cohort {

/// Which threads of a process may call MPI: there is only one (MPI_THREAD_SINGLE), the one that has initialised it, one at a
/// time, or all.
enum class ThreadLevel : std::uint8_t { single, funneled, serialized, multiple };
[[nodiscard]] std::optional<ThreadLevel> thread_level_named(std::string_view name);   ///< "funneled"

/// MPI from start to end: the constructor initialises it, the destructor finalises it. MPI may grant another level than
/// `asked`. One per process, made by the thread that calls `main`. Without mpirun the job has one rank.
class Environment {
 public:
  explicit Environment(ThreadLevel asked = ThreadLevel::multiple);
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment();

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int ranks() const noexcept { return ranks_; }

  /// Collective. All ranks of the job. `context.rank`, `ranks` and `host` are filled in here. Messages longer than
  /// `largest_message` bytes are cut.
  [[nodiscard]] Communicator world(Context context, std::size_t largest_message = kLargestMessage) const;

  /// True in a process that `Communicator::spawn` started, which has met its parents in the constructor. It must end without
  /// MPI_Finalize, which would wait for them.
  [[nodiscard]] bool spawned() const noexcept { return spawned_; }
  /// Collective with the `spawn` that started this process: what that returned, where this process is the last rank. Once.
  [[nodiscard]] Communicator parents(Context context);

  /// The destructor will leave MPI alone: after the death of a rank MPI_Finalize may never return.
  void abandon() noexcept { abandoned_ = true; }

  /// Where all ranks come to their end together: the process says so and ends with this exit code if MPI_Finalize takes longer, as
  /// it does for ever when a rank dies meanwhile.
  void limit_finalize(unsigned seconds, int code) noexcept {
    finalize_seconds_ = seconds;
    finalize_code_ = code;
  }

  [[nodiscard]] static std::string thread_level();      ///< what MPI granted: "multiple", "serialized", "funneled", "single"
  [[nodiscard]] static std::string library_version();   ///< "Open MPI v4.1.4"
  [[nodiscard]] static std::string processor_name();
  /// Before MPI starts, or a process that starts it: keeps Debian's hwloc, which MPI asks what the machine has, from looking for
  /// graphics cards at ten X displays. Each is a look-up of "localhost", which may wait for a name server for seconds, and
  /// finds nothing that is used here. A HWLOC_COMPONENTS of the user's own stays.
  static void skip_displays() noexcept;

  static constexpr std::size_t kLargestMessage = std::size_t{1} << 30;   // MPI counts are ints

 private:
  int rank_ = 0;
  int ranks_ = 1;
  bool spawned_ = false;
  std::unique_ptr<Transport> parents_;
  bool abandoned_ = false;
  unsigned finalize_seconds_ = 0;   // 0: no limit
  int finalize_code_ = 0;
};

/// Ends all ranks of the job at once with this exit code; does not return, and takes 5 seconds at most. Only the top of a job calls it.
[[noreturn]] void abort_job(int code) noexcept;

}  // namespace cohort
