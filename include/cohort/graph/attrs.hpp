#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "cohort/tensor/tensor.hpp"

namespace cohort {

/// One attribute of a node. Whole numbers are int64, floating-point numbers double, so that lookups need no guessing.
class Attr {
 public:
  using Variant = std::variant<bool, std::int64_t, double, std::string, DType, Shape, std::vector<std::int64_t>, Tensor>;
  Attr(bool x) : value_(x) {}                                                   // NOLINT: implicit, attributes are written as values
  Attr(std::integral auto x) : value_(static_cast<std::int64_t>(x)) {}          // NOLINT
  Attr(std::floating_point auto x) : value_(static_cast<double>(x)) {}          // NOLINT
  Attr(const char* x) : value_(std::string(x)) {}                               // NOLINT
  Attr(std::string x) : value_(std::move(x)) {}                                 // NOLINT
  Attr(DType x) : value_(x) {}                                                  // NOLINT
  Attr(Shape x) : value_(x) {}                                                  // NOLINT
  Attr(std::vector<std::int64_t> x) : value_(std::move(x)) {}                   // NOLINT
  Attr(Tensor x) : value_(std::move(x)) {}                                      // NOLINT
  [[nodiscard]] const Variant& value() const noexcept { return value_; }
  [[nodiscard]] std::string text() const;   ///< canonical: equal attributes give equal texts (a tensor gives its bytes' hash)

 private:
  Variant value_;
};

/// The attributes of a node, by name.
class Attrs {
 public:
  Attrs() = default;
  Attrs(std::initializer_list<std::pair<const std::string, Attr>> list) : values_(list) {}
  void set(std::string_view name, Attr value) { values_.insert_or_assign(std::string(name), std::move(value)); }
  [[nodiscard]] bool has(std::string_view name) const { return values_.contains(name); }

  /// Error invalid_argument if missing or of another type.
  template <class T>
  [[nodiscard]] const T& get(std::string_view name) const {
    const auto at = values_.find(name);
    if (at == values_.end()) fail_get(name, "is missing");
    const T* value = std::get_if<T>(&at->second.value());
    if (value == nullptr) fail_get(name, "has another type than asked for");
    return *value;
  }
  template <class T>
  [[nodiscard]] T get(std::string_view name, T otherwise) const {
    return has(name) ? get<T>(name) : otherwise;
  }
  [[nodiscard]] auto begin() const { return values_.begin(); }      ///< pairs of name and Attr, by name
  [[nodiscard]] auto end() const { return values_.end(); }
  [[nodiscard]] std::string text() const;    ///< "{axis: 1, keep_dims: true}", canonical

 private:
  [[noreturn]] static void fail_get(std::string_view name, std::string_view why);
  std::map<std::string, Attr, std::less<>> values_;
};

}  // namespace cohort
