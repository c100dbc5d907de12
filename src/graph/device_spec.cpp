#include "cohort/graph/device_spec.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

[[noreturn]] void refuse(std::string_view text, std::string_view part) {
  fail(Code::invalid_argument,
       fmt::format("device '{}': '{}' is not /job:NAME, /replica:N, /task:N, /device:TYPE:N, /cpu:N or /gpu:N", text, part));
}

std::optional<int> number(std::string_view text, std::string_view part, std::string_view digits) {
  if (digits == "*") return std::nullopt;
  int value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size() || value < 0) refuse(text, part);
  return value;
}

std::string upper(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return result;
}

}  // namespace

DeviceSpec DeviceSpec::parse(std::string_view text) {
  DeviceSpec spec;
  std::string_view rest = text;
  while (!rest.empty()) {
    if (rest.front() != '/') refuse(text, rest);
    const std::size_t end = std::min(rest.find('/', 1), rest.size());
    const std::string_view part = rest.substr(1, end - 1);
    rest.remove_prefix(end);
    const std::size_t colon = part.find(':');
    if (colon == std::string_view::npos) refuse(text, part);
    const std::string_view key = part.substr(0, colon), value = part.substr(colon + 1);
    if (key == "job") {
      if (value != "*") spec.job = value;
    } else if (key == "replica") {
      spec.replica = number(text, part, value);
    } else if (key == "task") {
      spec.task = number(text, part, value);
    } else if (key == "device") {
      const std::size_t second = value.find(':');
      if (value.substr(0, second) != "*") spec.type = upper(value.substr(0, second));
      if (second != std::string_view::npos) spec.index = number(text, part, value.substr(second + 1));
    } else if (upper(key) == "CPU" || upper(key) == "GPU") {
      spec.type = upper(key);
      spec.index = number(text, part, value);
    } else {
      refuse(text, part);
    }
  }
  return spec;
}

std::string DeviceSpec::text() const {
  std::string text;
  if (job) text += "/job:" + *job;
  if (replica) text += fmt::format("/replica:{}", *replica);
  if (task) text += fmt::format("/task:{}", *task);
  if (type) text += "/device:" + *type + ":" + (index ? std::to_string(*index) : "*");
  return text;
}

}  // namespace cohort
