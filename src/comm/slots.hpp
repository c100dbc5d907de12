#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cohort/comm/transport.hpp"

namespace cohort {

/// What a transport keeps about its operations under way. A request is the number of its slot; what is released is used again,
/// so that nothing is allocated once there are enough.
template <class Slot>
class Slots {
 public:
  void reserve(std::size_t n) {
    slots_.reserve(n);
    free_.reserve(n);
  }

  [[nodiscard]] Request add(const Slot& content) {
    if (free_.empty()) {
      slots_.push_back(content);
      free_.reserve(slots_.size());        // release() must not throw
      return Request(static_cast<std::int32_t>(slots_.size()) - 1);
    }
    const Request request(free_.back());
    free_.pop_back();
    (*this)[request] = content;
    return request;
  }
  void release(Request& request) noexcept {
    free_.push_back(request.slot());
    request.clear();
  }

  Slot& operator[](std::int32_t number) { return slots_[static_cast<std::size_t>(number)]; }
  Slot& operator[](const Request& request) { return (*this)[request.slot()]; }

 private:
  std::vector<Slot> slots_;
  std::vector<std::int32_t> free_;
};

}  // namespace cohort
