#pragma once

#include <hdf5.h>

#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace cohort::hdf5 {

/// Owns one HDF5 identifier; `close` is the function that gives it back. Destruction never throws.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Handle() = default;
  Handle(hid_t id, Close close) noexcept : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, kNone)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }

  [[nodiscard]] hid_t get() const noexcept { return id_; }
  [[nodiscard]] hid_t release() noexcept { return std::exchange(id_, kNone); }

 private:
  static constexpr hid_t kNone = -1;
  hid_t id_ = kNone;
  Close close_ = nullptr;
};

/// Turns off HDF5's own printing of errors for the calling thread (the library keeps that setting per thread): an error
/// is an exception here. And its exit handler, unless the program has used HDF5 before. Cheap; every entry point calls it first.
void quiet();

/// What HDF5 says about the last failed call of this thread, innermost reason first; empty if it says nothing.
[[nodiscard]] std::string reason();

/// Throws Error data_loss "`what`: reason" unless the call succeeded. One overload per kind of return value.
hid_t check(hid_t id, std::string_view what, std::source_location where = std::source_location::current());
herr_t check(herr_t status, std::string_view what, std::source_location where = std::source_location::current());

/// Takes ownership of a checked identifier.
[[nodiscard]] inline Handle own(hid_t id, Handle::Close close, std::string_view what,
                                std::source_location where = std::source_location::current()) {
  return {check(id, what, where), close};
}

}  // namespace cohort::hdf5
