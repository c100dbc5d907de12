#pragma once

#include <memory>

#include "cohort/comm/transport.hpp"

namespace cohort {

/// What the threads of one group share: their mailboxes. Thread-safe.
class ThreadGroup;
[[nodiscard]] std::shared_ptr<ThreadGroup> make_thread_group(int size);

/// One rank's end. Messages up to 128 bytes are buffered; longer ones are copied once, by the receiver, from the sender's
/// memory, so a send finishes when it has been received.
[[nodiscard]] std::unique_ptr<Transport> make_thread_transport(std::shared_ptr<ThreadGroup> group, int rank);

}  // namespace cohort
