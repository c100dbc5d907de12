#pragma once

#include <cstddef>
#include <deque>
#include <span>
#include <vector>

#include "cohort/comm/transport.hpp"

namespace cohort {

/// Short messages on their way. Copies what it sends, uses memory again, and never waits.
class Outbox {
 public:
  explicit Outbox(Transport& transport) : transport_(&transport) {}

  template <class T>
  void send(int peer, int tag, const T& message) {
    send(peer, tag, std::as_bytes(std::span(&message, 1)));
  }
  void send(int peer, int tag, std::span<const std::byte> bytes);
  /// True if everything has been taken by those who are there.
  bool progress();
  /// True if this rank has taken everything.
  bool reached(int peer);

 private:
  struct Letter {
    std::vector<std::byte> bytes;
    Transfer transfer;
    int peer = -1;                    // -1: free
  };
  Transport* transport_;
  std::deque<Letter> letters_;        // stay where they are
};

}  // namespace cohort
