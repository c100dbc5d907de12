#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cohort {

/// A device request as text, whole or in part: "/job:ps/task:0/device:GPU:1", "/gpu:0", "/device:CPU:*", "". What is absent
/// or "*" is left open.
struct DeviceSpec {
  std::optional<std::string> job;
  std::optional<int> replica, task;
  std::optional<std::string> type;      ///< upper case: "CPU", "GPU"
  std::optional<int> index;

  /// Error invalid_argument that names the part at fault.
  [[nodiscard]] static DeviceSpec parse(std::string_view text);
  [[nodiscard]] std::string text() const;
};

}  // namespace cohort
