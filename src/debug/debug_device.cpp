// "DEBUG:0", a device for finding out whether code would work on a GPU, loaded at start like any other device plug-in. Its
// memory is host memory that nobody may touch except the work on its stream, and its stream is lazy: work runs when somebody
// synchronizes, not before. Code that forgets to copy faults; code that forgets to synchronize reads old values.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "cohort/tensor/device.hpp"

namespace cohort {
namespace {

/// The device's allocations: protected pages, opened only while work of the stream runs. Readable from a signal handler.
class GuardedMemory {
 public:
  static GuardedMemory& instance() {
    static GuardedMemory memory;
    return memory;
  }

  std::shared_ptr<void> allocate(std::size_t bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t size = std::max<std::size_t>((bytes + page - 1) / page * page, page);
    void* start = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) throw std::bad_alloc();
    const std::scoped_lock lock(mutex_);
    Range& range = claim(start, size);
    if (open_ > 0) protect(range, PROT_READ | PROT_WRITE);
    return {start, [this, &range, size](void* memory) { release(range, memory, size); }};
  }

  /// Ranks can be threads, each with a stream: pages are open while any of them works.
  void open() {
    const std::scoped_lock lock(mutex_);
    if (open_++ == 0) protect_all(PROT_READ | PROT_WRITE);
  }
  void close() {
    const std::scoped_lock lock(mutex_);
    if (--open_ == 0) protect_all(PROT_NONE);
  }

  /// Async-signal-safe.
  [[nodiscard]] bool contains(const void* address) const {
    for (const Range& range : ranges_) {
      const char* start = static_cast<const char*>(range.start.load());
      if (start != nullptr && address >= start && address < start + range.size.load()) return true;
    }
    return false;
  }

 private:
  struct Range {
    std::atomic<void*> start{nullptr};
    std::atomic<std::size_t> size{0};
  };

  Range& claim(void* start, std::size_t size) {
    for (Range& range : ranges_) {
      void* none = nullptr;
      if (range.start.compare_exchange_strong(none, start)) {
        range.size = size;
        return range;
      }
    }
    fail(Code::failed_precondition, "the DEBUG device holds at most " + std::to_string(ranges_.size()) + " allocations");
  }
  static void protect(const Range& range, int how) {
    if (void* start = range.start.load()) mprotect(start, range.size.load(), how);
  }
  void protect_all(int how) {
    for (const Range& range : ranges_) protect(range, how);
  }
  void release(Range& range, void* memory, std::size_t size) {
    const std::scoped_lock lock(mutex_);
    range.start = nullptr;
    munmap(memory, size);
  }

  std::array<Range, 4096> ranges_;
  std::mutex mutex_;
  int open_ = 0;
};

struct sigaction previous_handler;

void on_fault(int signal, siginfo_t* info, void* context) {
  if (GuardedMemory::instance().contains(info->si_addr)) {
    constexpr char kText[] = "error: the host touched memory of DEBUG:0, which only work on its stream may touch; copy it through the stream\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, kText, sizeof kText - 1);
  }
  sigaction(SIGSEGV, &previous_handler, nullptr);   // whoever was there before takes the fault when it happens again
  if ((previous_handler.sa_flags & SA_SIGINFO) != 0 && previous_handler.sa_sigaction != nullptr) {
    previous_handler.sa_sigaction(signal, info, context);
  }
}

class LazyStream final : public Stream {
 public:
  void launch(std::function<void()> work) override { queue_.push_back(std::move(work)); }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (bytes > 0) queue_.emplace_back([=] { std::memmove(to, from, bytes); });
  }
  void synchronize() override {
    const std::vector<std::function<void()>> work = std::exchange(queue_, {});
    if (work.empty()) return;
    const Opened opened;
    for (const auto& piece : work) piece();
  }
  bool immediate() const noexcept override { return false; }

 private:
  struct Opened {
    Opened() { GuardedMemory::instance().open(); }
    ~Opened() { GuardedMemory::instance().close(); }
  };
  std::vector<std::function<void()>> queue_;
};

class DebugDevice final : public Device {
 public:
  const DeviceInfo& info() const noexcept override { return info_; }
  Stream& stream() noexcept override { return stream_; }

 private:
  Buffer do_allocate(std::size_t bytes) override { return {GuardedMemory::instance().allocate(bytes), bytes}; }

  DeviceInfo info_{.type = "DEBUG", .index = 0, .kernels = "CPU", .host_accessible = false,
                   .description = "host memory that the host may not touch, and a lazy stream"};
  LazyStream stream_;
};

std::shared_ptr<Device> open_debug_device(int) {
  static std::atomic<bool> handler_installed{false};
  if (!handler_installed.exchange(true)) {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &previous_handler);
  }
  return std::make_shared<DebugDevice>();
}

const Registered<DeviceType> debug{"DEBUG", {.count = [] { return 1; }, .open = open_debug_device}};

}  // namespace
}  // namespace cohort
