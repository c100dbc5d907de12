#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "cohort/tensor/device.hpp"

namespace cohort {
namespace {

class CpuStream final : public Stream {
 public:
  void launch(std::function<void()> work) override { work(); }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (bytes > 0) std::memmove(to, from, bytes);
  }
  void synchronize() override {}
  bool immediate() const noexcept override { return true; }
};

class CpuDevice final : public Device {
 public:
  const DeviceInfo& info() const noexcept override { return info_; }
  Stream& stream() noexcept override { return stream_; }

 private:
  Buffer do_allocate(std::size_t bytes) override {
    const std::size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment, bytes == 0 ? kAlignment : bytes) != 0) throw std::bad_alloc();
    if (bytes >= kHugePage) (void)madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);   // only advice: it may fail
    return {std::shared_ptr<void>(memory, std::free), bytes};
  }

  static constexpr std::size_t kAlignment = 64;   // a cache line, and AVX-512's vector
  // Rows of matrices are 4 KiB and more apart, so a tile of a product touches as many small pages as it has rows.
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  DeviceInfo info_{.type = "CPU", .index = 0, .kernels = "CPU", .host_accessible = true, .description = "host memory"};
  CpuStream stream_;
};

const Registered<DeviceType> cpu{"CPU",
                                 {.count = [] { return 1; }, .open = [](int) { return std::make_shared<CpuDevice>(); }}};

}  // namespace

Device& host() {
  static CpuDevice device;
  return device;
}

}  // namespace cohort
