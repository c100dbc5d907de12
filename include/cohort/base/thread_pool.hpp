#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace cohort {

/// A view of a callable `void(begin, end)`; does not own it, never allocates.
class RangeFunction {
 public:
  template <class F>
  RangeFunction(F&& f)  // NOLINT: implicit by design, it stands for a lambda argument
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, std::int64_t begin, std::int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(object))(begin, end);
        }) {}
  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

/// The threads of one rank's kernels. With one thread everything runs in the caller and no thread is started.
class ThreadPool {
 public:
  /// The caller counts as one of the threads. `ranges` > 0: work is cut into at most so many ranges, however many threads
  /// there are, so that results do not depend on threads where a sum follows the ranges.
  explicit ThreadPool(int threads = 1, int ranges = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// The most ranges that work is cut into; each is run by one thread.
  [[nodiscard]] int threads() const noexcept { return ranges_; }

  /// Cuts [0, n) into at most threads() ranges of at least `grain` and returns when all have run. An exception of `f` is
  /// rethrown here (the first). One caller at a time; not reentrant.
  void parallel_for(std::int64_t n, std::int64_t grain, RangeFunction f);

 private:
  struct Shared;
  int ranges_;
  std::unique_ptr<Shared> shared_;
};

}  // namespace cohort
