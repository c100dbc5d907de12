#include "cohort/comm/control.hpp"
#include "report/clock_alignment.hpp"

#include <algorithm>
#include <limits>

namespace cohort {
namespace {

constexpr int kTag = 1;

void move(Communicator& communicator, Transfer& transfer, const char* what) {
  communicator.wait(WaitStatus{.operation = what, .peer = transfer.peer()}, [&] { return transfer.done(); });
}

/// Rank 0's side, with one other rank.
ClockOffset ask(Communicator& communicator, const Clock& clock, int peer, int rounds) {
  ClockOffset best{.uncertainty = std::numeric_limits<double>::infinity()};
  for (int i = 0; i < rounds; ++i) {
    double theirs = 0;
    Transfer answer(communicator.transport()), question(communicator.transport());
    answer.receive(peer, kTag, &theirs, sizeof theirs);
    const double sent = clock.now();
    question.send(peer, kTag, nullptr, 0);
    move(communicator, answer, "clock alignment");
    const double received = clock.now();
    move(communicator, question, "clock alignment");
    if ((received - sent) / 2 >= best.uncertainty) continue;
    best = {.at = theirs, .seconds = theirs - (sent + received) / 2, .uncertainty = (received - sent) / 2};
  }
  return best;
}

void answer(Communicator& communicator, const Clock& clock, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    Transfer question(communicator.transport()), answer(communicator.transport());
    question.receive(0, kTag, nullptr, 0);
    move(communicator, question, "clock alignment");
    const double now = clock.now();
    answer.send(0, kTag, &now, sizeof now);
    move(communicator, answer, "clock alignment");
  }
}

}  // namespace

std::vector<ClockOffset> measure_clock_offsets(Communicator& parent, const Clock& clock, int rounds) {
  Communicator communicator = parent.duplicate();
  std::vector<ClockOffset> offsets(static_cast<std::size_t>(communicator.size()));
  offsets[0].at = clock.now();
  if (communicator.rank() != 0) answer(communicator, clock, rounds);
  for (int peer = 1; communicator.rank() == 0 && peer < communicator.size(); ++peer) {
    offsets[static_cast<std::size_t>(peer)] = ask(communicator, clock, peer, rounds);
  }
  broadcast_values(communicator, std::span<ClockOffset>(offsets), 0);
  return offsets;
}

double ClockAlignment::to_rank_0(double time) const noexcept {
  const double span = end_.at - begin_.at;
  const double share = span > 0 ? std::clamp((time - begin_.at) / span, 0.0, 1.0) : 0.0;
  return time - (begin_.seconds + share * (end_.seconds - begin_.seconds));
}

}  // namespace cohort
