#include "cohort/comm/control.hpp"
#include "report/gather.hpp"

#include <cstdint>

namespace cohort {
namespace {

constexpr int kTag = 2;

void move(Communicator& communicator, Transfer& transfer) {
  communicator.wait(WaitStatus{.operation = "gathering a report", .peer = transfer.peer()}, [&] { return transfer.done(); });
}

std::string receive_from(Communicator& communicator, int rank) {
  std::uint64_t size = 0;
  Transfer transfer(communicator.transport());
  transfer.receive(rank, kTag, &size, sizeof size);
  move(communicator, transfer);
  std::string text(size, '\0');
  transfer.receive(rank, kTag, text.data(), text.size());
  move(communicator, transfer);
  return text;
}

void send_to_root(Communicator& communicator, const std::string& text) {
  const std::uint64_t size = text.size();
  Transfer transfer(communicator.transport());
  transfer.send(0, kTag, &size, sizeof size);
  move(communicator, transfer);
  transfer.send(0, kTag, text.data(), text.size());
  move(communicator, transfer);
}

}  // namespace

void gather_in_turn(Communicator& parent, const std::string& mine, const std::function<void(int, const std::string&)>& take) {
  Communicator communicator = parent.duplicate();
  if (communicator.rank() == 0) take(0, mine);
  for (int rank = 1; rank < communicator.size(); ++rank) {
    if (communicator.rank() == rank) send_to_root(communicator, mine);
    if (communicator.rank() == 0) take(rank, receive_from(communicator, rank));
    barrier(communicator);                  // so that no rank's wait spans the turns of others
  }
}

}  // namespace cohort
