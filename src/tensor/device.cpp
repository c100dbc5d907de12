#include "cohort/tensor/device.hpp"

#include <fmt/core.h>

#include <charconv>
#include <new>

#include "base/about.hpp"

namespace cohort {

void MemoryUse::add(std::int64_t bytes) noexcept {
  const std::int64_t sum = now.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  std::int64_t seen = most.load(std::memory_order_relaxed);
  while (seen < sum && !most.compare_exchange_weak(seen, sum, std::memory_order_relaxed)) {
  }
}

Buffer Device::allocate(std::size_t bytes) {
  Buffer buffer;
  try {
    buffer = do_allocate(bytes);
  } catch (const std::bad_alloc&) {
    rethrow_about(fmt::format("{}: {} bytes ({:.1f} GiB)", info().name(), bytes, static_cast<double>(bytes) / (1 << 30)));
  }
  const auto size = static_cast<std::int64_t>(buffer.bytes);
  memory_->add(size);
  std::shared_ptr<void> counted(buffer.memory.get(), [memory = buffer.memory, use = memory_, size](void*) { use->remove(size); });
  return {std::move(counted), buffer.bytes};
}

std::shared_ptr<Device> open_device(std::string_view name) {
  const auto colon = name.find(':');
  const std::string type(name.substr(0, colon));
  int index = 0;
  if (colon != std::string_view::npos) {
    const std::string_view digits = name.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error != std::errc{} || end != digits.data() + digits.size() || index < 0) {
      fail(Code::invalid_argument, "device '" + std::string(name) + "': expected TYPE or TYPE:INDEX, as in CPU:0");
    }
  }
  const DeviceType& found = Registry<DeviceType>::instance().get(type);
  if (const int count = found.count(); index >= count) {
    std::string have;
    for (const auto& [other, entry] : Registry<DeviceType>::instance().entries()) {
      have += " " + other + " (" + std::to_string(entry.value.count()) + ")";
    }
    fail(Code::not_found, "no device " + std::string(name) + " here; there are:" + have);
  }
  return found.open(index);
}

}  // namespace cohort
