#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cohort {

/// One value of a job file.
struct OptionValue;
using OptionList = std::vector<OptionValue>;
struct OptionValue {
  std::variant<bool, std::int64_t, double, std::string, OptionList> value;
  std::string where;       ///< "jobs/lenet.toml:12" or "--set"
  std::string written{};   ///< as it stood on the command line, where it is a number or true or false: for a key that is a text
};

/// What a value may be; printed in messages and in `cohort list`.
struct Allowed {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  bool above_least = false;                  ///< least itself is not allowed
  std::vector<std::string> names{};          ///< for strings; empty: any
  [[nodiscard]] std::string text() const;    ///< "0 ≤ value < 1", "one of: fp32 bf16"
};
[[nodiscard]] Allowed at_least(double least);
[[nodiscard]] Allowed above(double least, double most = std::numeric_limits<double>::infinity());
[[nodiscard]] Allowed between(double least, double most);
[[nodiscard]] Allowed one_of(std::vector<std::string> names);

/// The value of a variable of the environment; nothing where it is not set.
using VariableLookup = std::function<std::optional<std::string>(const std::string& name)>;

/// One section of a job's configuration. A component binds each of its fields once, with default, help and range:
///
///     struct Options { double momentum = 0; explicit Options(Section& s) { s.bind("momentum", momentum, "…", between(0, 1)); } };
///
/// `bind` keeps the default when the file is silent, checks range and type when it is not, and remembers the key, so that
/// `finish()` can refuse keys that nobody asked for and `resolved()` can print the whole configuration.
///
/// Whatever range is given, a number with a fraction must fit a float32 (infinity and NaN do not, nor does what is to be above 0
/// and becomes 0), and a whole number a double (2^53): most options end up as such.
class Section {
 public:
  explicit Section(std::string path = {});
  Section(Section&&) noexcept;
  Section& operator=(Section&&) noexcept;
  ~Section();

  void bind(std::string_view key, bool& field, std::string_view help);
  void bind(std::string_view key, int& field, std::string_view help, const Allowed& = {});
  void bind(std::string_view key, std::int64_t& field, std::string_view help, const Allowed& = {});
  void bind(std::string_view key, std::uint64_t& field, std::string_view help);
  void bind(std::string_view key, double& field, std::string_view help, const Allowed& = {});
  void bind(std::string_view key, std::string& field, std::string_view help, const Allowed& = {});
  void bind(std::string_view key, std::vector<std::int64_t>& field, std::string_view help, const Allowed& = {});
  void bind(std::string_view key, std::vector<double>& field, std::string_view help, const Allowed& = {});
  void bind(std::string_view key, std::vector<std::string>& field, std::string_view help);
  /// Nothing where the file is silent, and then `resolved()` is silent as well.
  void bind(std::string_view key, std::optional<bool>& field, std::string_view help);
  /// Paths as a shell would take them: "~" at the beginning is the home folder, $NAME and ${NAME} are variables of the
  /// environment. What exists as it is written is that file. Error invalid_argument for a variable that is not set.
  void bind_path(std::string_view key, std::string& field, std::string_view help);
  void bind_paths(std::string_view key, std::vector<std::string>& field, std::string_view help);

  /// The subsection; empty when the file has none. A list of tables ([[group]]) gives one child per entry by `children`; a list
  /// without entries (group = []) is none.
  Section& child(std::string_view key);
  std::vector<Section*> children(std::string_view key);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }   ///< "optimizer", "" for the root
  [[nodiscard]] bool has(std::string_view key) const;                         ///< given in the file or by --set

  /// Used by whoever reads the file. `set` overwrites; `add_child_entry` appends to a list of tables, found at `where`.
  void set(std::string_view key, OptionValue value);
  /// Where variables in paths come from, for this section and those that are added to it afterwards. Without it, none is set.
  void take_variables_from(VariableLookup look_up) { look_up_ = std::move(look_up); }
  Section& add_child_entry(std::string_view key, std::string where = {});

  /// Error `invalid_argument` for the first key that no `bind`, `child` or `children` asked for, with the nearest valid key.
  void finish() const;

  /// TOML text of everything bound: given values and defaults alike; sections in the order of binding.
  [[nodiscard]] std::string resolved() const;

  struct Bound {
    std::string key, value, help, allowed;
    bool given;
  };
  [[nodiscard]] const std::vector<Bound>& bound() const noexcept { return bound_; }

 private:
  const OptionValue* take(std::string_view key) const;
  const OptionValue* value_of(std::string_view key) const;
  void take_paths(std::string_view key, std::span<std::string> paths) const;
  [[nodiscard]] std::string full(std::string_view key) const;
  void remember(std::string_view key, std::string value, std::string_view help, const Allowed& allowed, bool given);
  [[noreturn]] void refuse(std::string_view key, const OptionValue& value, const std::string& why) const;
  template <class T>
  void bind_number(std::string_view key, T& field, std::string_view help, const Allowed& allowed, const Allowed& limits);
  template <class T>
  void bind_list(std::string_view key, std::vector<T>& field, std::string_view help, const Allowed& allowed);
  void print(std::string& text) const;

  std::string path_, where_;
  VariableLookup look_up_;
  std::map<std::string, OptionValue, std::less<>> values_;
  std::map<std::string, std::vector<std::unique_ptr<Section>>, std::less<>> children_;
  std::vector<Bound> bound_;
  std::vector<std::string> asked_children_;
};

/// The known name with the smallest edit distance to `name`; empty if none is near.
[[nodiscard]] std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

}  // namespace cohort
