#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "watch/socket.hpp"

namespace cohort {

/// What a rank says when it connects. The token tells our ranks from strangers.
struct Hello {
  std::uint64_t token = 0;
  std::int32_t rank = -1;
  std::int32_t unused = 0;
};

/// A coordinator's connections to the ranks of its job. One thread, but for `wake`.
class RankLinks {
 public:
  /// Listens at this address, by which all ranks reach it.
  RankLinks(const std::string& listen, std::size_t ranks);

  /// Port and addresses, separated by blanks.
  [[nodiscard]] std::string address() const;
  [[nodiscard]] std::size_t size() const noexcept { return links_.size(); }
  [[nodiscard]] Link& operator[](std::size_t rank) { return links_[rank]; }

  /// Until something has come from a rank or a stranger, there is room for what is to be sent, `wake` was called, or so many
  /// seconds are over.
  void wait(double seconds);
  void wake() noexcept { wake_.signal(); }
  /// Takes new connections, and hands over those of ranks that know the token.
  void take(std::uint64_t token, const std::function<void(Link&&, const Hello&)>& admit);
  /// The rank has been lost, and another process takes its place: the one before may still read what it was told.
  void make_room(std::size_t rank);
  /// Nothing more is sent. Waits a little until what was has arrived.
  void end();

 private:
  Listener listener_;
  WakeUp wake_;
  std::vector<Link> links_;          // by rank
  Lobby lobby_;                      // those who have not said hello
  std::vector<Link> former_;         // to ranks that were lost and replaced
};

}  // namespace cohort
