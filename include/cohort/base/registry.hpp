#pragma once

#include <functional>
#include <map>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/base/error.hpp"

namespace cohort {

/// What a registry of `T` calls its entries in messages: specialise beside `T`, as in
/// `template <> inline constexpr std::string_view kKindOf<Op> = "op";`
template <class T>
inline constexpr std::string_view kKindOf = "entry";

/// "unknown optimizer 'sdg', known: adam lamb sgd"
[[nodiscard]] std::string unknown_name_text(std::string_view kind, std::string_view name,
                                            const std::vector<std::string>& known);

/// All values of type `T` that files entered under a name. Filled before `main` (and by plug-in libraries that are loaded
/// first thing); only read afterwards, so reading needs no lock.
template <class T>
class Registry {
 public:
  struct Entry {
    T value;
    std::source_location where;
  };

  static Registry& instance() {
    static Registry registry;
    return registry;
  }

  void add(std::string_view name, T value, std::source_location where) {
    const auto [at, fresh] = entries_.try_emplace(std::string(name), Entry{std::move(value), where});
    if (!fresh) {
      fail(Code::internal, std::string(kKindOf<T>) + " '" + std::string(name) + "' is registered twice: " +
                               location_text(at->second.where) + " and " + location_text(where));
    }
  }

  [[nodiscard]] const T* find(std::string_view name) const {
    const auto at = entries_.find(name);
    return at == entries_.end() ? nullptr : &at->second.value;
  }

  /// Error `not_found` with the list of known names.
  [[nodiscard]] const T& get(std::string_view name) const {
    if (const T* value = find(name)) return *value;
    fail(Code::not_found, unknown_name_text(kKindOf<T>, name, names()));
  }

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [name, entry] : entries_) result.push_back(name);
    return result;
  }

  [[nodiscard]] const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

/// A file-scope object of this type enters a plug-in: `const Registered<Op> op{"Softplus", {...}};`
template <class T>
struct Registered {
  Registered(std::string_view name, T value, std::source_location where = std::source_location::current()) {
    Registry<T>::instance().add(name, std::move(value), where);
  }
};

}  // namespace cohort
