#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cohort/base/registry.hpp"

namespace cohort {

struct DeviceInfo {
  std::string type;                ///< "CPU", "GPU", "DEBUG"
  int index = 0;                   ///< the n-th of its type that this rank sees
  std::string kernels;             ///< the kernel family that runs here: "CPU" for CPU and DEBUG
  bool host_accessible = true;     ///< may the host read and write its memory directly?
  std::string description{};       ///< for people: model, memory
  [[nodiscard]] std::string name() const { return type + ":" + std::to_string(index); }
};

/// A piece of device memory. Copies share it; the last one frees it. The start is aligned to 64 bytes at least.
struct Buffer {
  std::shared_ptr<void> memory;
  std::size_t bytes = 0;
};

/// Work in order on one device. All calls return at once on an asynchronous device; the host sees the results after
/// `synchronize()`. One thread at a time.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Runs host code that touches this device's memory, in order with everything else. (On a GPU, kernels launch
  /// themselves on `native()` instead.)
  virtual void launch(std::function<void()> work) = 0;
  /// Copies between any two of: this device's memory, host memory.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  virtual void synchronize() = 0;
  /// True where `launch` runs the work before it returns, so that callers can call it directly instead.
  [[nodiscard]] virtual bool immediate() const noexcept = 0;
  [[nodiscard]] virtual void* native() noexcept { return nullptr; }   ///< cudaStream_t on a GPU
};

/// Bytes that a device object has given, and that have not been freed yet. Thread-safe.
struct MemoryUse {
  std::atomic<std::int64_t> now = 0, most = 0;
  void add(std::int64_t bytes) noexcept;
  void remove(std::int64_t bytes) noexcept { now.fetch_sub(bytes, std::memory_order_relaxed); }
};

/// Gives memory and runs work in order. Thread-safe but for the stream.
class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual const DeviceInfo& info() const noexcept = 0;
  [[nodiscard]] Buffer allocate(std::size_t bytes);
  [[nodiscard]] virtual Stream& stream() noexcept = 0;
  [[nodiscard]] const MemoryUse& memory() const noexcept { return *memory_; }   ///< of `allocate`

 protected:
  virtual Buffer do_allocate(std::size_t bytes) = 0;

 private:
  std::shared_ptr<MemoryUse> memory_ = std::make_shared<MemoryUse>();   // buffers may outlive the device
};

/// How a device type enters: name → a function that opens the `index`-th device of that type, or explains (Error
/// not_found) why there is none. `count` says how many there are.
struct DeviceType {
  std::function<int()> count;
  std::function<std::shared_ptr<Device>(int index)> open;
};
template <>
inline constexpr std::string_view kKindOf<DeviceType> = "device type";

/// Opens "CPU", "CPU:0", "GPU:1", "DEBUG:0". Error not_found with what there is.
[[nodiscard]] std::shared_ptr<Device> open_device(std::string_view name);

/// The process's host memory as a device: immediate, for tensors that no session owns.
[[nodiscard]] Device& host();

}  // namespace cohort
