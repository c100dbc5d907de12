#pragma once

#include <cstdint>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "cohort/params/parameters.hpp"
#include "tasks/messages.hpp"
#include "tasks/task_layout.hpp"

namespace cohort {

/// A worker's copy of the values, as fresh as it asks for. One thread.
class ValuePull {
 public:
  /// `parameters`: whole, on the session's device.
  ValuePull(Communicator& client, const TaskLayout& layout, Parameters& parameters, Device& device);

  /// Waits for values of at least this version from all tasks. Those that are there are not fetched again.
  void fetch(std::int64_t version);
  /// The oldest and the newest version among the tasks' values.
  [[nodiscard]] std::int64_t oldest() const noexcept;
  [[nodiscard]] std::int64_t newest() const noexcept;
  [[nodiscard]] std::int64_t bytes() const noexcept;

 private:
  struct Task {
    std::int64_t version = -1;
    PullRequest request;
    ValuesHeader header;
    std::vector<PieceHeader> headers;
    std::vector<std::byte> wire;
    std::vector<Transfer> in;
    Transfer out;
    std::size_t arrived = 0;
    bool asked = false;
  };
  void ask(std::size_t task, std::int64_t version);
  [[nodiscard]] bool arrive(std::size_t task);
  void take(std::size_t task, std::size_t piece);
  [[nodiscard]] float* place(std::int64_t flat);

  Communicator& client_;
  const TaskLayout& layout_;
  Parameters& parameters_;
  Device& device_;
  std::vector<Task> tasks_;
  std::vector<float> staged_;
};

}  // namespace cohort
