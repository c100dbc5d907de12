#include "tasks/farewell.hpp"

#include <cstdint>

namespace cohort {
namespace {

constexpr int kSummary = 1, kSize = 2, kText = 3;      // tags

/// Waits for a transfer with a rank; false if that rank is lost before.
bool wait_for(Communicator& line, const char* what, int peer, Transfer& transfer) {
  const Membership& membership = *line.membership();
  bool done = false;
  line.wait(WaitStatus{.operation = what, .peer = peer}, [&] {
    done = transfer.done();
    return done || membership.lost(peer);
  });
  return done;
}

}  // namespace

std::vector<RankSummary> Farewell::gather(const RankSummary& mine) {
  if (line_.rank() != 0) {
    Transfer transfer(line_.transport());
    transfer.send(0, kSummary, &mine, sizeof mine);
    (void)wait_for(line_, "taking of a summary", 0, transfer);
    return {};
  }
  std::vector<RankSummary> all{mine};
  for (int peer = 1; peer < line_.size(); ++peer) {
    RankSummary summary;
    Transfer transfer(line_.transport());
    transfer.receive(peer, kSummary, &summary, sizeof summary);
    if (wait_for(line_, "summary", peer, transfer)) all.push_back(summary);
  }
  return all;
}

void Farewell::send_to(int peer, const std::string& text) {
  const auto size = static_cast<std::int64_t>(text.size());
  Transfer length(line_.transport()), content(line_.transport());
  length.send(peer, kSize, &size, sizeof size);
  content.send(peer, kText, text.data(), text.size());
  (void)(wait_for(line_, "taking of the result", peer, length) && wait_for(line_, "taking of the result", peer, content));
}

void Farewell::tell(std::string& text) {
  if (line_.rank() == 0) {
    for (int peer = 1; peer < line_.size(); ++peer) {
      if (!line_.membership()->lost(peer)) send_to(peer, text);
    }
    return;
  }
  std::int64_t size = 0;
  Transfer length(line_.transport()), content(line_.transport());
  length.receive(0, kSize, &size, sizeof size);
  (void)wait_for(line_, "result", 0, length);
  text.resize(static_cast<std::size_t>(size));
  content.receive(0, kText, text.data(), text.size());
  (void)wait_for(line_, "result", 0, content);
}

}  // namespace cohort
