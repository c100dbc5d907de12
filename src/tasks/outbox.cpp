#include "tasks/outbox.hpp"

#include <algorithm>

namespace cohort {

void Outbox::send(int peer, int tag, std::span<const std::byte> bytes) {
  auto letter = std::ranges::find(letters_, -1, &Letter::peer);
  if (letter == letters_.end()) {
    letters_.emplace_back();
    letter = letters_.end() - 1;
    letter->transfer = Transfer(*transport_);
  }
  letter->peer = peer;
  letter->bytes.assign(bytes.begin(), bytes.end());
  letter->transfer.send(peer, tag, letter->bytes.data(), letter->bytes.size());
}

bool Outbox::progress() {
  bool empty = true;
  for (Letter& letter : letters_) {
    if (letter.peer < 0) continue;
    if (letter.transfer.done()) letter.peer = -1;
    else empty = false;
  }
  return empty;
}

bool Outbox::reached(int peer) {
  (void)progress();
  return std::ranges::find(letters_, peer, &Letter::peer) == letters_.end();
}

}  // namespace cohort
