#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/comm/control.hpp"

namespace cohort {

/// The ranks that load a checkpoint together, or one rank alone; rank 0 leads. What goes wrong on one of them is the same error
/// on all, so that all of them have loaded everything or nothing. All calls are collective.
class LoadGroup {
 public:
  /// `ranks`: null for one rank alone. `alternative`: what rank 0 adds to errors about a file that is damaged or not there.
  LoadGroup(Communicator* ranks, std::function<std::string()> alternative) : ranks_(ranks), alternative_(std::move(alternative)) {}

  [[nodiscard]] int rank() const noexcept { return ranks_ == nullptr ? 0 : ranks_->rank(); }
  [[nodiscard]] int size() const noexcept { return ranks_ == nullptr ? 1 : ranks_->size(); }
  [[nodiscard]] bool leads() const noexcept { return rank() == 0; }
  [[nodiscard]] Communicator& ranks() const { return *ranks_; }        ///< of several

  /// Does the work on rank 0.
  void on_root(const std::function<void()>& work) { together(leads() ? work : std::function<void()>()); }
  /// Does the work on all ranks; nothing in it may be collective.
  void on_all(const std::function<void()>& work) { together(work); }
  /// Rank 0's, for all.
  void share(std::string& text) const;
  void share(std::span<std::byte> data) const;
  template <class T>
  void share_values(std::span<T> values) const {
    share(std::as_writable_bytes(values));
  }
  template <class T>
  [[nodiscard]] std::vector<T> gather(const T& mine) const {
    return size() == 1 ? std::vector<T>{mine} : all_gather_value(*ranks_, mine);
  }

 private:
  void together(const std::function<void()>& work);
  [[nodiscard]] std::string advice() const;
  [[noreturn]] void fail_together(const std::optional<Error>& mine);

  Communicator* ranks_;
  std::function<std::string()> alternative_;
};

}  // namespace cohort
