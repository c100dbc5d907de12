#include "job/config.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <vector>

#include "cohort/base/json.hpp"
#include "cohort/base/library.hpp"
#include "cohort/base/stop.hpp"
#include "cohort/comm/control.hpp"

namespace cohort {
namespace {

const Registered<Library> toml_library{"toml++", {"job files", [] {
  return fmt::format("{}.{}.{}", TOML_LIB_MAJOR, TOML_LIB_MINOR, TOML_LIB_PATCH);
}}};

std::string where_of(const toml::node& node) {
  const toml::source_region& source = node.source();
  const std::string path = source.path ? *source.path : std::string("--set");   // an entry that entry_of has made
  return path.starts_with("--set") ? path : fmt::format("{}:{}", path, source.begin.line);
}

[[noreturn]] void refuse_syntax(const std::string& path, const toml::parse_error& error) {
  fail(Code::invalid_argument, fmt::format("{}:{}:{}: {}", path, error.source().begin.line, error.source().begin.column,
                                           error.description()) +
                                   "; a line is KEY = VALUE, with texts in quotes, or [SECTION], or [[ENTRY OF A LIST]]");
}

/// A pipe may have no writer yet, or one that takes its time: whoever waits for it hears a wish to stop.
std::string text_of_file(const std::string& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  check(descriptor >= 0, Code::not_found, fmt::format("{}: cannot be read: {}", file, std::strerror(errno)));
  const std::unique_ptr<const int, void (*)(const int*)> closes(&descriptor, [](const int* open) { ::close(*open); });
  std::string text;
  for (;;) {
    throw_if_stopped("waiting for the job file", file);
    pollfd waiting{.fd = descriptor, .events = POLLIN, .revents = 0};
    if (poll(&waiting, 1, 100) <= 0) continue;
    std::array<char, 1 << 16> piece;
    const ssize_t got = ::read(descriptor, piece.data(), piece.size());
    if (got == 0) return text;
    if (got > 0) text.append(piece.data(), static_cast<std::size_t>(got));
    else check(errno == EAGAIN || errno == EINTR, Code::not_found, fmt::format("{}: cannot be read: {}", file, std::strerror(errno)));
  }
}

toml::table parse_file(const std::string& file) {
  check(std::filesystem::exists(file), Code::not_found, file + ": no such job file");
  check(!std::filesystem::is_directory(file), Code::invalid_argument, file + ": is a folder, not a job file");
  const std::string text = text_of_file(file);
  try {
    return toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    refuse_syntax(file, error);
  }
}

/// By "--set KEY": how a number, true or false was written. A key that is a text takes it so: 007 and 1e5 are names as well.
using Written = std::map<std::string, std::string>;

/// The value of --set key=value as a node under the name "value".
toml::table parse_value(const std::string& key, const std::string& value) {
  const std::string where = "--set " + key;
  try {
    toml::table parsed = toml::parse("value = " + value, where);
    if (parsed.size() == 1 && !parsed["value"].is_date() && !parsed["value"].is_time() && !parsed["value"].is_date_time()) {
      return parsed;
    }
  } catch (const toml::parse_error& error) {   // a bare word is no TOML, but what begins like TOML is a slip
    if (!value.empty() && std::string_view("[{\"'").find(value.front()) != std::string_view::npos) {
      fail(Code::invalid_argument, fmt::format("{}={}: {}", where, value, error.description()));
    }
  }
  const auto control = std::ranges::find_if(value, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (control != value.end()) {
    fail(Code::invalid_argument, fmt::format("{}: the value has a control character (number {}), which only a text in quotes may: write \\n for a line "
                                             "end, \\t for a tab, \\u001b for number 27, as in --set '{}=\"first\\nsecond\"'",
                                             where, static_cast<int>(*control), key));
  }
  try {
    return toml::parse("value = " + json_text(value), where);
  } catch (const toml::parse_error& error) {   // bytes that are no UTF-8
    fail(Code::invalid_argument, fmt::format("{}: the value is no text: {}", where, error.description()));
  }
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

/// The table that `key` of `parent` names, made if it is not there.
toml::table& table_below(toml::table& parent, const std::string& key, const std::string& setting) {
  toml::node* node = parent.get(key);
  if (node == nullptr) {
    toml::table made = toml::parse("value = {}", "--set " + setting.substr(0, setting.find('=')));   // and so it knows where it is from
    node = &parent.insert(key, std::move(*made.get("value"))).first->second;
  }
  if (auto* table = node->as_table()) return *table;
  fail(Code::invalid_argument, fmt::format("--set {}: '{}' is {} in {}", setting, key,
                                           node->is_array() ? "a list: name an entry by its number, as in " + key + ".0"
                                                            : std::string("a value, no section,"),
                                           where_of(*node)));
}

/// Entry `index` of a list of tables; the one after the last is made.
toml::table& entry_of(toml::array& list, const std::string& index, const std::string& setting) {
  std::size_t at = 0;
  const auto [end, error] = std::from_chars(index.data(), index.data() + index.size(), at);
  const bool number = error == std::errc{} && end == index.data() + index.size();
  if (!number || at > list.size()) {
    fail(Code::invalid_argument, fmt::format("--set {}: expected a number from 0 to {} in the place of '{}'", setting,
                                             list.size(), index));
  }
  if (at == list.size()) list.push_back(toml::table{});
  if (auto* table = list[at].as_table()) return *table;
  fail(Code::invalid_argument, fmt::format("--set {}: entry {} is no section", setting, index));
}

void apply_setting(toml::table& root, const std::string& setting, Written& written) {
  const auto equals = setting.find('=');
  const std::vector<std::string> keys = split(setting.substr(0, equals), '.');
  const bool bad = equals == std::string::npos || keys.empty() || std::ranges::any_of(keys, &std::string::empty) ||
                   setting[equals - 1] == '.';
  if (bad)
    fail(Code::invalid_argument, fmt::format("--set {}: expected KEY=VALUE, as in optimizer.learning_rate=0.01", setting));
  toml::table* table = &root;
  for (std::size_t i = 0; i + 1 < keys.size(); ++i) {
    const bool entry_follows = i + 2 < keys.size();
    toml::node* node = table->get(keys[i]);
    if (node == nullptr && entry_follows && keys[i + 1] == "0") node = &table->insert(keys[i], toml::array{}).first->second;
    if (node != nullptr && node->is_array() && entry_follows) table = &entry_of(*node->as_array(), keys[++i], setting);
    else table = &table_below(*table, keys[i], setting);
  }
  const std::string key = setting.substr(0, equals);
  toml::table value = parse_value(key, setting.substr(equals + 1));
  if (value["value"].is_table() || value["value"].is_array()) written.erase("--set " + key);
  else written["--set " + key] = setting.substr(equals + 1);
  const toml::node* old = table->get(keys.back());
  const bool section = old != nullptr && (old->is_table() || old->is_array_of_tables());
  if (section && old->type() != value.get("value")->type()) {
    fail(Code::invalid_argument, fmt::format("--set {}: '{}' is a section in {}; set one of its keys, or all as in {}={{a=1}}",
                                             setting, keys.back(), where_of(*old), keys.back()));
  }
  table->insert_or_assign(keys.back(), std::move(*value.get("value")));
}

OptionValue to_value(const toml::node& node, const std::string& key, const Written& written) {
  OptionValue result{{}, where_of(node)};
  if (const auto found = written.find(result.where); found != written.end()) result.written = found->second;
  if (const auto* list = node.as_array()) {
    OptionList entries;
    for (const toml::node& entry : *list) entries.push_back(to_value(entry, key, written));
    result.value = std::move(entries);
  } else if (const auto truth = node.value_exact<bool>()) {
    result.value = *truth;
  } else if (const auto whole = node.value_exact<std::int64_t>()) {
    result.value = *whole;
  } else if (const auto number = node.value_exact<double>()) {
    result.value = *number;
  } else if (const auto text = node.value_exact<std::string>()) {
    result.value = *text;
  } else {
    fail(Code::invalid_argument, fmt::format("{}: {}: expected a number, a text in quotes, true, false or a list of these",
                                             result.where, key));
  }
  return result;
}

/// Copies a table into a section, and a line for each value into `lines`.
void fill(Section& section, const toml::table& table, const Written& written, std::vector<std::string>& lines) {
  const std::string prefix = section.path().empty() ? "" : section.path() + ".";
  for (const auto& [toml_key, node] : table) {
    const std::string key(toml_key.str());
    if (const auto* child = node.as_table()) {
      fill(section.add_child_entry(key, where_of(node)), *child, written, lines);
    } else if (node.is_array_of_tables()) {
      std::size_t i = 0;
      for (const toml::node& entry : *node.as_array()) {
        const std::size_t first = lines.size();
        fill(section.add_child_entry(key, where_of(entry)), *entry.as_table(), written, lines);
        for (std::size_t line = first; line < lines.size(); ++line) {   // which entry it is of
          lines[line].insert(prefix.size() + key.size(), "." + std::to_string(i));
        }
        ++i;
      }
    } else {
      section.set(key, to_value(node, prefix + key, written));
      std::ostringstream value;
      node.visit([&](const auto& typed) { value << typed; });
      std::string line = value.str();
      std::ranges::replace(line, '\n', ' ');
      lines.push_back(fmt::format("{}{} = {}", prefix, key, line));
    }
  }
}

std::string rank_list(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank" : "ranks";
  for (std::size_t i = 0; i < ranks.size() && i < 8; ++i) text += fmt::format(" {}", ranks[i]);
  return ranks.size() > 8 ? text + fmt::format(" … ({} ranks)", ranks.size()) : text;
}

/// Who has which value of each key, where they differ.
std::string differences(const std::vector<std::string>& texts) {
  std::map<std::string, std::map<std::string, std::vector<int>>> keys;   // key → value → ranks
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    for (const std::string& line : split(texts[rank], '\n')) {
      const auto at = line.find(" = ");
      keys[line.substr(0, at)][line.substr(at + 3)].push_back(static_cast<int>(rank));
    }
  }
  std::string text;
  for (auto& [key, values] : keys) {
    std::size_t have = 0;
    for (const auto& [value, ranks] : values) have += ranks.size();
    if (values.size() == 1 && have == texts.size()) continue;
    text += "\n  " + key + ":";
    for (const auto& [value, ranks] : values) text += fmt::format(" {} on {};", value, rank_list(ranks));
    if (have < texts.size()) text += " not set elsewhere;";
    text.back() = '.';
  }
  return text;
}

}  // namespace

Configuration load_configuration(const std::string& file, std::span<const std::string> settings) {
  toml::table table = file.empty() ? toml::table{} : parse_file(file);
  Written written;
  for (const std::string& setting : settings) apply_setting(table, setting, written);
  Configuration result;
  result.root.take_variables_from([](const std::string& name) -> std::optional<std::string> {
    const char* const value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  });
  std::vector<std::string> lines;
  fill(result.root, table, written, lines);
  std::ranges::sort(lines);
  for (const std::string& line : lines) result.text += line + "\n";
  return result;
}

void compare_between_ranks(Communicator& world, const std::string& text, const std::string& what) {
  const std::vector<std::size_t> hashes = all_gather_value(world, std::hash<std::string>{}(text));
  if (std::ranges::all_of(hashes, [&](std::size_t hash) { return hash == hashes.front(); })) return;
  fail(Code::failed_precondition, what + ":" + differences(all_gather(world, text)));
}

}  // namespace cohort
