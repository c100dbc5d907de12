#include "cohort/graph/attrs.hpp"

#include <fmt/core.h>

#include "cohort/base/random.hpp"

namespace cohort {
namespace {

std::string text_of(bool x) { return x ? "true" : "false"; }
std::string text_of(std::int64_t x) { return fmt::format("{}", x); }
std::string text_of(double x) { return fmt::format("{:.17g}", x); }
std::string text_of(const std::string& x) { return '"' + x + '"'; }
std::string text_of(DType x) { return std::string(name(x)); }
std::string text_of(const Shape& x) { return x.text(); }
std::string text_of(const std::vector<std::int64_t>& x) {
  std::string text = "[";
  for (std::size_t i = 0; i < x.size(); ++i) text += (i ? ", " : "") + text_of(x[i]);
  return text + "]";
}
std::string text_of(const Tensor& x) {
  const std::string_view bytes(static_cast<const char*>(x.raw()), x.bytes());
  return fmt::format("{}{}#{:016x}", name(x.dtype()), x.shape().text(), stream_of(bytes));
}

}  // namespace

std::string Attr::text() const {
  return std::visit([](const auto& x) { return text_of(x); }, value_);
}

std::string Attrs::text() const {
  std::string text = "{";
  for (const auto& [name, attr] : values_) text += (text.size() > 1 ? ", " : "") + name + ": " + attr.text();
  return text + "}";
}

void Attrs::fail_get(std::string_view name, std::string_view why) {
  fail(Code::invalid_argument, fmt::format("attribute '{}' {}", name, why));
}

}  // namespace cohort
