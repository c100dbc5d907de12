#include "cohort/base/options.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <system_error>
#include <type_traits>

#include "cohort/base/error.hpp"
#include "cohort/base/json.hpp"
#include "cohort/base/registry.hpp"

namespace cohort {
namespace {

std::string number_text(double x) {
  if (x == std::floor(x) && std::fabs(x) <= 0x1p53) return fmt::format("{}", static_cast<std::int64_t>(x));
  return fmt::format("{:.4g}", x);
}

/// TOML spelling; a float always shows that it is one, so that it is read back as one.
std::string toml_text(bool x) { return x ? "true" : "false"; }
std::string toml_text(std::int64_t x) { return fmt::format("{}", x); }
std::string toml_text(double x) {
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  if (std::isnan(x)) return "nan";
  std::string text = fmt::format("{}", x);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}
std::string toml_text(const std::string& x) { return json_text(x); }
template <class T>
std::string toml_text(const std::vector<T>& list) {
  std::string text = "[";
  for (std::size_t i = 0; i < list.size(); ++i) text += (i ? ", " : "") + toml_text(list[i]);
  return text + "]";
}

std::string shown(const OptionValue& value) {
  return std::visit(
      [](const auto& x) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(x)>, OptionList>) {
          std::string text = "[";
          for (std::size_t i = 0; i < x.size(); ++i) text += (i ? ", " : "") + shown(x[i]);
          return text + "]";
        } else {
          return toml_text(x);
        }
      },
      value.value);
}

bool inside(double x, const Allowed& allowed) {
  if (std::isnan(x)) return false;
  return (allowed.above_least ? x > allowed.least : x >= allowed.least) && x <= allowed.most;
}

/// What lies above 0 must do so as a float32 as well.
bool stays_above(double x, const Allowed& allowed) { return !allowed.above_least || static_cast<float>(x) > static_cast<float>(allowed.least); }

/// What a field of type T can hold, and whoever computes with it.
template <class T>
Allowed narrowed(Allowed allowed) {
  if constexpr (std::is_same_v<T, double>) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    allowed.least = std::max(allowed.least, -kLargest);
    allowed.most = std::min(allowed.most, kLargest);
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    constexpr double kLargest = 0x1p53;    // above it, not every whole number is a double
    allowed.least = std::max(allowed.least, -kLargest);
    allowed.most = std::min(allowed.most, kLargest);
  }
  return allowed;
}

/// The value as a T, or nothing if it is of another kind. Whole numbers pass as floats, never the other way round.
template <class T>
std::optional<T> as(const OptionValue& value) {
  if constexpr (std::is_same_v<T, double>) {
    if (const auto* whole = std::get_if<std::int64_t>(&value.value)) return static_cast<double>(*whole);
  }
  if (const auto* exact = std::get_if<T>(&value.value)) return *exact;
  return std::nullopt;
}

template <class T>
constexpr std::string_view kind_name() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  else if constexpr (std::is_same_v<T, std::int64_t>) return "a whole number";
  else if constexpr (std::is_same_v<T, double>) return "a number";
  else return "a text in quotes";
}

bool belongs_to_a_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// `wrong` throws, with what is wrong with the path.
std::string as_a_shell_takes_it(const std::string& path, const VariableLookup& look_up, const std::function<void(const std::string&)>& wrong) {
  std::error_code error;
  if (path.find_first_of("~$") == std::string::npos || std::filesystem::exists(path, error)) return path;
  const auto variable = [&](const std::string& name) {
    std::optional<std::string> value = look_up ? look_up(name) : std::nullopt;
    if (!value) wrong("the environment has no variable " + name);
    return *value;
  };
  std::string result;
  std::size_t at = 0;
  if (path.front() == '~') {
    if (path.size() > 1 && path[1] != '/') wrong("~ is your home folder; write that of somebody else as it is");
    result = variable("HOME");
    at = 1;
  }
  while (at < path.size()) {
    const bool braces = path.compare(at, 2, "${") == 0;
    const std::size_t begin = at + (braces ? 2 : 1);
    std::size_t end = begin;
    while (end < path.size() && belongs_to_a_name(path[end])) ++end;
    if (path[at] != '$' || (end == begin && !braces)) {
      result += path[at++];
      continue;
    }
    if (braces && (end == begin || end == path.size() || path[end] != '}')) wrong("expected ${NAME}");
    result += variable(path.substr(begin, end - begin));
    at = end + (braces ? 1 : 0);
  }
  return result;
}

}  // namespace

std::string Allowed::text() const {
  if (!names.empty()) {
    std::string list = "one of:";
    for (const auto& name : names) list += " " + name;
    return list;
  }
  const bool low = std::isfinite(least), high = std::isfinite(most);
  if (low && high) return fmt::format("{} {} value <= {}", number_text(least), above_least ? "<" : "<=", number_text(most));
  if (low) return fmt::format("value {} {}", above_least ? ">" : ">=", number_text(least));
  if (high) return fmt::format("value <= {}", number_text(most));
  return {};
}

Allowed at_least(double least) { return {.least = least}; }
Allowed above(double least, double most) { return {.least = least, .most = most, .above_least = true}; }
Allowed between(double least, double most) { return {.least = least, .most = most}; }
Allowed one_of(std::vector<std::string> names) { return {.names = std::move(names)}; }

Section::Section(std::string path) : path_(std::move(path)) {}
Section::Section(Section&&) noexcept = default;
Section& Section::operator=(Section&&) noexcept = default;
Section::~Section() = default;

std::string Section::full(std::string_view key) const { return path_.empty() ? std::string(key) : path_ + "." + std::string(key); }

void Section::refuse(std::string_view key, const OptionValue& value, const std::string& why) const {
  fail(Code::invalid_argument, fmt::format("{}: {} = {}: {}", value.where, full(key), shown(value), why));
}

void Section::remember(std::string_view key, std::string value, std::string_view help, const Allowed& allowed, bool given) {
  const auto same = std::find_if(bound_.begin(), bound_.end(), [&](const Bound& b) { return b.key == key; });
  Bound entry{std::string(key), std::move(value), std::string(help), allowed.text(), given};
  if (same != bound_.end()) *same = std::move(entry);
  else bound_.push_back(std::move(entry));
}

const OptionValue* Section::take(std::string_view key) const {
  const auto at = values_.find(key);
  return at == values_.end() ? nullptr : &at->second;
}

const OptionValue* Section::value_of(std::string_view key) const {
  const auto section = children_.find(key);
  if (section == children_.end() || section->second.empty()) return take(key);
  const std::string& where = section->second.front()->where_;
  fail(Code::invalid_argument, fmt::format("{}: {} is a key, no section: expected {} = VALUE", where.empty() ? "configuration" : where, full(key), key));
}

template <class T>
void Section::bind_number(std::string_view key, T& field, std::string_view help, const Allowed& allowed, const Allowed& limits) {
  const OptionValue* given = value_of(key);
  if (given != nullptr) {
    auto value = as<T>(*given);
    if constexpr (std::is_same_v<T, std::string>) {
      if (!value && !given->written.empty()) value = given->written;
    }
    if (!value) refuse(key, *given, fmt::format("expected {}{}{}", kind_name<T>(), allowed.text().empty() ? "" : ", ", allowed.text()));
    if constexpr (std::is_same_v<T, std::string>) {
      if (!allowed.names.empty() && std::find(allowed.names.begin(), allowed.names.end(), *value) == allowed.names.end()) {
        const std::string near = nearest_name(*value, allowed.names);
        refuse(key, *given, "allowed: " + allowed.text() + (near.empty() ? "" : "; did you mean '" + near + "'?"));
      }
    } else if constexpr (!std::is_same_v<T, bool>) {
      if (!inside(static_cast<double>(*value), limits)) refuse(key, *given, "allowed: " + (inside(static_cast<double>(*value), allowed) ? limits : allowed).text());
      if (!stays_above(static_cast<double>(*value), limits)) refuse(key, *given, "allowed: " + limits.text() + ", also as a float32");
    }
    field = *value;
  }
  remember(key, toml_text(field), help, allowed, given != nullptr);
}

template <class T>
void Section::bind_list(std::string_view key, std::vector<T>& field, std::string_view help, const Allowed& allowed) {
  const OptionValue* given = value_of(key);
  if (given != nullptr) {
    const auto* list = std::get_if<OptionList>(&given->value);
    if (list == nullptr) refuse(key, *given, fmt::format("expected a list, each entry {}", kind_name<T>()));
    const Allowed limits = narrowed<T>(allowed);
    field.clear();
    for (const auto& entry : *list) {
      const auto value = as<T>(entry);
      if (!value) refuse(key, *given, fmt::format("expected {} in the list, got {}", kind_name<T>(), shown(entry)));
      if constexpr (!std::is_same_v<T, std::string>) {
        const auto number = static_cast<double>(*value);
        if (!inside(number, allowed)) refuse(key, *given, "allowed for each entry: " + allowed.text());
        if (!inside(number, limits) || !stays_above(number, limits)) refuse(key, *given, "allowed for each entry: " + limits.text());
      }
      field.push_back(*value);
    }
  }
  remember(key, toml_text(field), help, allowed, given != nullptr);
}

void Section::bind(std::string_view key, bool& field, std::string_view help) { bind_number(key, field, help, {}, {}); }
void Section::bind(std::string_view key, std::int64_t& field, std::string_view help, const Allowed& allowed) {
  bind_number(key, field, help, allowed, narrowed<std::int64_t>(allowed));
}
void Section::bind(std::string_view key, int& field, std::string_view help, const Allowed& allowed) {
  std::int64_t wide = field;
  Allowed limits = allowed;
  limits.least = std::max(limits.least, static_cast<double>(std::numeric_limits<int>::min()));
  limits.most = std::min(limits.most, static_cast<double>(std::numeric_limits<int>::max()));
  bind_number(key, wide, help, allowed, limits);
  field = static_cast<int>(wide);
}
void Section::bind(std::string_view key, std::uint64_t& field, std::string_view help) {
  auto wide = static_cast<std::int64_t>(field);
  bind_number(key, wide, help, at_least(0), at_least(0));
  field = static_cast<std::uint64_t>(wide);
}
void Section::bind(std::string_view key, double& field, std::string_view help, const Allowed& allowed) {
  bind_number(key, field, help, allowed, narrowed<double>(allowed));
}
void Section::bind(std::string_view key, std::string& field, std::string_view help, const Allowed& allowed) {
  bind_number(key, field, help, allowed, allowed);
}
void Section::bind(std::string_view key, std::vector<std::int64_t>& field, std::string_view help, const Allowed& allowed) {
  bind_list(key, field, help, allowed);
}
void Section::bind(std::string_view key, std::vector<double>& field, std::string_view help, const Allowed& allowed) {
  bind_list(key, field, help, allowed);
}
void Section::bind(std::string_view key, std::vector<std::string>& field, std::string_view help) {
  bind_list(key, field, help, {});
}
void Section::bind(std::string_view key, std::optional<bool>& field, std::string_view help) {
  bool said = false;
  bind(key, said, help);
  Bound& entry = *std::ranges::find(bound_, key, &Bound::key);
  if (entry.given) field = said;
  else entry.value = field ? toml_text(*field) : "";
}

void Section::bind_path(std::string_view key, std::string& field, std::string_view help) {
  bind(key, field, help);
  take_paths(key, std::span(&field, 1));
  remember(key, toml_text(field), help, {}, has(key));
}
void Section::bind_paths(std::string_view key, std::vector<std::string>& field, std::string_view help) {
  bind(key, field, help);
  take_paths(key, field);
  remember(key, toml_text(field), help, {}, has(key));
}

/// Where the key is given, its paths as a shell would take them.
void Section::take_paths(std::string_view key, std::span<std::string> paths) const {
  const OptionValue* given = take(key);
  for (std::string& path : given == nullptr ? std::span<std::string>() : paths) {
    const auto wrong = [&](const std::string& why) { refuse(key, *given, why); };
    path = as_a_shell_takes_it(path, look_up_, wrong);
  }
}

bool Section::has(std::string_view key) const { return values_.contains(key) || children_.contains(key); }

void Section::set(std::string_view key, OptionValue value) { values_.insert_or_assign(std::string(key), std::move(value)); }

Section& Section::add_child_entry(std::string_view key, std::string where) {
  auto& list = children_[std::string(key)];
  Section& entry = *list.emplace_back(std::make_unique<Section>(full(key)));
  entry.where_ = std::move(where);
  entry.look_up_ = look_up_;
  return entry;
}

Section& Section::child(std::string_view key) {
  if (const auto* value = take(key)) refuse(key, *value, "expected a section, as in [" + full(key) + "]");
  if (std::find(asked_children_.begin(), asked_children_.end(), key) == asked_children_.end()) asked_children_.emplace_back(key);
  const auto at = children_.find(key);
  if (at == children_.end() || at->second.empty()) return add_child_entry(key);
  if (at->second.size() > 1) {
    fail(Code::invalid_argument, fmt::format("{}: {} is there {} times, expected one section, as in [{}]", at->second[1]->where_, full(key),
                                             at->second.size(), full(key)));
  }
  return *at->second.front();
}

std::vector<Section*> Section::children(std::string_view key) {
  if (const auto* value = take(key)) {
    const auto* list = std::get_if<OptionList>(&value->value);
    if (list == nullptr || !list->empty()) refuse(key, *value, "expected a list of sections, as in [[" + full(key) + "]]");
  }
  if (std::find(asked_children_.begin(), asked_children_.end(), key) == asked_children_.end()) asked_children_.emplace_back(key);
  std::vector<Section*> result;
  if (const auto at = children_.find(key); at != children_.end()) {
    for (const auto& entry : at->second) result.push_back(entry.get());
  }
  return result;
}

void Section::finish() const {
  std::vector<std::string> known;
  for (const auto& entry : bound_) known.push_back(entry.key);
  known.insert(known.end(), asked_children_.begin(), asked_children_.end());
  const auto refuse_unknown = [&](const std::string& key, const std::string& where) {
    const std::string near = nearest_name(key, known);
    std::string text = fmt::format("{}: unknown key '{}'", where.empty() ? "configuration" : where, full(key));
    text += near.empty() ? "." : fmt::format(", did you mean '{}'?", near);
    text += known.empty() ? " No key is known here." : " Known:";
    for (const auto& name : known) text += " " + name;
    fail(Code::invalid_argument, text);
  };
  for (const auto& [key, value] : values_) {
    if (std::find(known.begin(), known.end(), key) == known.end()) refuse_unknown(key, value.where);
  }
  for (const auto& [key, list] : children_) {
    if (std::find(known.begin(), known.end(), key) == known.end()) refuse_unknown(key, list.empty() ? std::string() : list.front()->where_);
    for (const auto& entry : list) entry->finish();
  }
}

void Section::print(std::string& text) const {
  for (const auto& entry : bound_) {
    if (!entry.value.empty()) text += fmt::format("{} = {}\n", entry.key, entry.value);
  }
  for (const auto& key : asked_children_) {
    const auto at = children_.find(key);
    if (at == children_.end()) continue;
    for (const auto& entry : at->second) {
      if (entry->bound_.empty() && entry->asked_children_.empty()) continue;
      const bool listed = at->second.size() > 1;
      text += fmt::format("\n{}{}{}\n", listed ? "[[" : "[", entry->path_, listed ? "]]" : "]");
      entry->print(text);
    }
  }
}

std::string Section::resolved() const {
  std::string text;
  print(text);
  return text;
}

std::string unknown_name_text(std::string_view kind, std::string_view name, const std::vector<std::string>& known) {
  std::string text = fmt::format("unknown {} '{}'", kind, name);
  const std::string near = nearest_name(name, known);
  text += near.empty() ? "." : fmt::format(", did you mean '{}'?", near);
  text += known.empty() ? " None is known." : " Known:";
  constexpr std::size_t kShown = 200, kLongest = 80;   // a table may have a million columns, with names of any length
  for (std::size_t i = 0; i < std::min(known.size(), kShown); ++i) {
    text += " " + (known[i].size() > kLongest ? known[i].substr(0, kLongest) + "…" : known[i]);
  }
  if (known.size() > kShown) text += fmt::format(" and {} more", known.size() - kShown);
  return text;
}

namespace {

/// Letters to add, leave out, change or swap with their neighbour (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last, last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j < last.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j < row.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    before_last = last;
    last = row;
  }
  return last.back();
}

}  // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 2) + 1;
  for (const auto& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace cohort
