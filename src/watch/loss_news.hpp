#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/watch/membership.hpp"
#include "watch/coordinator.hpp"

namespace cohort {

/// Losses that a rank has heard of from a coordinator, until its membership has them: ranks agree at a time of their own on who may
/// be lost. One thread.
class LossNews {
 public:
  /// The body of a loss frame.
  void hear(std::string_view body);
  /// Enters those whose rank may be lost here as well. If rank `me` itself is among them: why the others go on without it.
  [[nodiscard]] std::optional<std::string> enter(Membership& membership, int me);

 private:
  struct Loss {
    LossHead head;
    std::string reason;
  };
  std::vector<Loss> losses_;
};

}  // namespace cohort
