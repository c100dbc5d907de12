#include "cohort/tensor/device.hpp"

#include <charconv>

namespace cohort {

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
