#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "cohort/comm/transport.hpp"

namespace cohort {

/// Keeps the memory of one coroutine between its runs, so that starting it again allocates nothing. A class derives from
/// it once for one member coroutine that returns `Progress`; one run at a time: the last one must have ended, or been reset,
/// before the next is made.
class FrameOwner {
 public:
  FrameOwner() = default;
  FrameOwner(const FrameOwner&) = delete;
  FrameOwner& operator=(const FrameOwner&) = delete;

  [[nodiscard]] void* frame(std::size_t bytes) {
    if (bytes > bytes_) {
      memory_ = std::make_unique<std::max_align_t[]>(bytes / sizeof(std::max_align_t) + 1);
      bytes_ = bytes;
    }
    return memory_.get();
  }

 protected:
  ~FrameOwner() = default;

 private:
  std::unique_ptr<std::max_align_t[]> memory_;
  std::size_t bytes_ = 0;
};

/// An algorithm that can be resumed, written as a coroutine: it says `co_await until(…)` where it has to wait, and whoever
/// drives it calls `advance()`, which never blocks. Exceptions of the algorithm come out of `advance()`.
class Progress {
 public:
  struct promise_type {
    // The first argument of a member coroutine is its object: the frame lives there.
    template <std::derived_from<FrameOwner> Owner, class... Arguments>
    static void* operator new(std::size_t bytes, Owner& owner, Arguments&&...) {
      return static_cast<FrameOwner&>(owner).frame(bytes);
    }
    static void operator delete(void*) noexcept {}

    Progress get_return_object() { return Progress(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() { throw; }

    bool (*poll)(void*) = nullptr;   // what the algorithm waits for
    void* object = nullptr;
    int (*find_peer)(void*) = nullptr;
  };

  Progress() = default;
  explicit Progress(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}
  Progress(Progress&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Progress& operator=(Progress&& other) noexcept {
    reset();
    handle_ = std::exchange(other.handle_, nullptr);
    return *this;
  }
  ~Progress() { reset(); }

  /// True once the algorithm has ended; its frame is free for the next run then.
  bool advance() {
    if (!handle_) return true;
    promise_type& promise = handle_.promise();
    if (promise.poll != nullptr && !promise.poll(promise.object)) return false;
    promise.poll = nullptr;
    handle_.resume();
    if (!handle_.done()) return false;
    reset();
    return true;
  }
  /// The rank that the algorithm waits for, -1 if it did not say.
  [[nodiscard]] int peer() const {
    if (!handle_ || handle_.promise().poll == nullptr) return -1;
    return handle_.promise().find_peer(handle_.promise().object);
  }
  /// Ends the algorithm where it stands; its transfers give themselves up.
  void reset() noexcept {
    if (handle_) handle_.destroy();
    handle_ = nullptr;
  }

 private:
  std::coroutine_handle<promise_type> handle_;
};

/// What `co_await until(…)` waits for: `done()` is polled until it is true; `peer()` is the rank that it waits for then.
template <class Done, class Peer>
struct Until {
  Done done;
  Peer peer;

  bool await_ready() { return done(); }
  void await_suspend(std::coroutine_handle<Progress::promise_type> handle) {
    Progress::promise_type& promise = handle.promise();
    promise.object = this;
    promise.poll = [](void* self) -> bool { return static_cast<Until*>(self)->done(); };
    promise.find_peer = [](void* self) -> int { return static_cast<Until*>(self)->peer(); };
  }
  void await_resume() const noexcept {}
};

template <std::predicate Done, class Peer>
  requires std::is_invocable_r_v<int, Peer>
[[nodiscard]] auto until(Done done, Peer peer) {
  return Until<Done, Peer>{std::move(done), std::move(peer)};
}
template <std::predicate Done>
[[nodiscard]] auto until(Done done) {
  return until(std::move(done), [] { return -1; });
}
/// Waits for a transfer; says so with the peer's rank.
[[nodiscard]] inline auto until(Transfer& transfer) {
  return until([&transfer] { return transfer.done(); }, [&transfer] { return transfer.peer(); });
}
/// Lets the driver do something else before the algorithm goes on: between pieces of long computations.
[[nodiscard]] inline auto breath() {
  return until([first = true]() mutable { return !std::exchange(first, false); });
}

}  // namespace cohort
