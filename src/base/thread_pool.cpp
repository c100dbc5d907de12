#include "cohort/base/thread_pool.hpp"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/about.hpp"

namespace cohort {

struct ThreadPool::Shared {
  std::mutex mutex;
  std::condition_variable work_ready;
  std::condition_variable work_done;
  const RangeFunction* function = nullptr;
  std::int64_t n = 0;
  int ranges = 0;      // of the work at hand
  int running = 0;     // workers that have not finished their ranges
  int threads = 1;
  std::uint64_t round = 0;
  bool stopping = false;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  void run_ranges(int thread) {
    try {
      for (int range = thread; range < ranges; range += threads) {
        const std::int64_t begin = n * range / ranges;
        const std::int64_t end = n * (range + 1) / ranges;
        if (begin < end) (*function)(begin, end);
      }
    } catch (...) {
      const std::scoped_lock lock(mutex);
      if (!error) error = std::current_exception();
    }
  }

  void stop() {
    {
      const std::scoped_lock lock(mutex);
      stopping = true;
    }
    work_ready.notify_all();
    for (auto& worker : workers) worker.join();
  }

  void work(int thread) {
    std::uint64_t seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex);
        work_ready.wait(lock, [&] { return stopping || round != seen; });
        if (stopping) return;
        seen = round;
        if (thread >= ranges) continue;
      }
      run_ranges(thread);
      const std::scoped_lock lock(mutex);
      if (--running == 0) work_done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads, int ranges) : ranges_(ranges > 0 ? ranges : std::max(1, threads)) {
  if (ranges_ == 1) return;
  shared_ = std::make_unique<Shared>();
  shared_->threads = std::clamp(threads, 1, ranges_);
  try {
    for (int thread = 1; thread < shared_->threads; ++thread) {
      shared_->workers.emplace_back([shared = shared_.get(), thread] { shared->work(thread); });
    }
  } catch (...) {      // those that run must end before they go, or the program does
    shared_->stop();
    rethrow_about("starting " + std::to_string(shared_->threads) + " threads for kernels (train.threads)");
  }
}

ThreadPool::~ThreadPool() {
  if (shared_) shared_->stop();
}

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain, RangeFunction f) {
  if (n <= 0) return;
  const auto ranges = static_cast<int>(std::clamp<std::int64_t>(n / std::max<std::int64_t>(grain, 1), 1, ranges_));
  if (ranges == 1) {
    f(0, n);
    return;
  }
  Shared& shared = *shared_;
  {
    const std::scoped_lock lock(shared.mutex);
    shared.function = &f;
    shared.n = n;
    shared.ranges = ranges;
    shared.running = std::min(ranges, shared.threads) - 1;
    shared.error = nullptr;
    ++shared.round;
  }
  shared.work_ready.notify_all();
  shared.run_ranges(0);
  std::unique_lock lock(shared.mutex);
  shared.work_done.wait(lock, [&] { return shared.running == 0; });
  if (shared.error) std::rethrow_exception(shared.error);
}

}  // namespace cohort
