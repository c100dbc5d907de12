#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "job/start_news.hpp"
#include "watch/socket.hpp"

namespace cohort {

/// Watches over the start of a job for `cohort launch`: ranks that die, stop or leave before MPI is up leave all others waiting in
/// MPI_Init without end, and no watchdog is there yet. Ranks connect by an address in the environment and say how far they are. As soon
/// as one says that all have met, this only remembers who ends without a word. The clock begins when the first rank speaks, so a job
/// may wait in a queue; programs other than ours never speak, and are left alone. One thread, which calls `turn` often.
class StartWatch {
 public:
  /// `seconds` for the start. Sets the variable of the environment, for the launcher to inherit. `command`: the launcher and its words.
  StartWatch(double seconds, const std::vector<std::string>& command);

  void turn();
  /// Empty, or why the job will never begin, with the ranks that are missing: "rank 2 of 4 on node7 (process 12) has ended …".
  [[nodiscard]] std::string trouble() const;
  /// Ends the ranks that wait.
  void end_ranks();
  /// Empty, or the rank that ended first of those that ended without a word: "rank 2 of 4 on node7 (process 12)".
  [[nodiscard]] const std::string& first_gone() const noexcept { return first_gone_; }
  /// Rank 0 alone has not ended. Before its end it says how the job went, so if it does not it is stopped, most likely.
  [[nodiscard]] bool only_rank_0_stays() const;
  /// Empty, or ranks that have not ended: "rank 1 of 4 on node7 (process 12)".
  [[nodiscard]] std::string still_there() const;

  /// May ranks of this command run on other machines? Otherwise nobody else needs to reach this one.
  [[nodiscard]] static bool may_leave_this_machine(const std::vector<std::string>& command);

 private:
  struct Rank {
    bool seen = false, left = false, gone = false;     // gone: without a goodbye
    double heard = 0;
    StartNews news;
    Link link;
    [[nodiscard]] bool ended() const noexcept { return left || gone; }
  };

  void admit(Link link, const StartNews& news, bool leaves);
  void hear(Rank& rank);
  [[nodiscard]] bool all_ended() const;
  [[nodiscard]] std::string name(std::size_t rank) const;
  template <class Which>
  [[nodiscard]] std::string list(Which which, std::string_view what) const;

  double seconds_;
  std::uint64_t token_;
  Listener listener_;
  Lobby lobby_;
  std::vector<Rank> ranks_;
  double begun_ = 0, gone_at_ = 0;           // 0: not yet
  bool watched_ = false;
  std::string first_gone_;
};

}  // namespace cohort
