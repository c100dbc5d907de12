#include "job/outcome.hpp"

#include <fmt/core.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>

#include "base/disk_file.hpp"
#include "cohort/base/error.hpp"
#include "cohort/base/json.hpp"

namespace cohort {
namespace {

std::string json_of(const Outcome& outcome) {
  std::string text = fmt::format("{{\n  \"completed\": {},\n  \"stopped\": {},\n  \"exit_code\": {},\n  \"error\": {},\n  \"lost\": [",
                                 outcome.completed, json_text(outcome.stopped), outcome.exit_code, json_text(outcome.error));
  const char* between = "\n";
  for (const Membership::Loss& loss : outcome.lost) {
    text += fmt::format("{}    {{\"rank\": {}, \"reason\": {}}}", between, loss.rank, json_text(loss.reason));
    between = ",\n";
  }
  text += outcome.lost.empty() ? "],\n  \"facts\": {" : "\n  ],\n  \"facts\": {";
  between = "\n";
  for (const auto& [name, fact] : outcome.facts.facts) {
    text += fmt::format("{}    {}: {}", between, json_text(name), json_text(fact));
    between = ",\n";
  }
  return text + (outcome.facts.facts.empty() ? "}\n}\n" : "\n  }\n}\n");
}

/// Reads the JSON above, and takes it as it is written there: a key cannot be mistaken, since quotes inside texts have a
/// backslash.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}
  /// Goes behind the next `word`; false, and nowhere, if there is none.
  bool skip(std::string_view word) {
    const std::size_t at = rest_.find(word);
    if (at == std::string_view::npos) return false;
    rest_.remove_prefix(at + word.size());
    return true;
  }
  [[nodiscard]] bool follows(std::string_view word) const { return rest_.starts_with(word); }
  [[nodiscard]] int number() {
    int value = 0;
    std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    return value;
  }
  [[nodiscard]] std::string text() {
    std::string result;
    for (std::size_t i = 1; i < rest_.size() && rest_[i] != '"'; ++i) {
      if (rest_[i] != '\\') {
        result += rest_[i];
      } else if (rest_[++i] == 'u') {
        int code = 0;
        std::from_chars(rest_.data() + i + 1, rest_.data() + i + 5, code, 16);
        result += static_cast<char>(code);
        i += 4;
      } else {
        result += rest_[i];
      }
    }
    return result;
  }

 private:
  std::string_view rest_;
};

}  // namespace

std::filesystem::path outcome_file() {
  const char* file = std::getenv("COHORT_OUTCOME");
  return file == nullptr ? "" : file;
}

void write_outcome(const std::filesystem::path& file, const Outcome& outcome) {
  if (file.empty()) return;
  try {
    replace_file(file, json_of(outcome));
  } catch (const Error& error) {   // the job has ended anyway
    fmt::print(stderr, "warning: cannot write how the job ended, as COHORT_OUTCOME wants: {}\n", error.what());
  }
}

std::optional<Outcome> read_outcome(const std::filesystem::path& file) {
  std::ifstream in(file);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  Reader reader(text);
  if (!reader.skip("\"completed\": ")) return {};
  Outcome outcome;
  outcome.completed = reader.follows("true");
  if (reader.skip("\"stopped\": ")) outcome.stopped = reader.text();
  if (reader.skip("\"exit_code\": ")) outcome.exit_code = reader.number();
  if (reader.skip("\"error\": ")) outcome.error = reader.text();
  while (reader.skip("{\"rank\": ")) {
    const int rank = reader.number();
    if (reader.skip("\"reason\": ")) outcome.lost.push_back({rank, reader.text()});
  }
  return outcome;
}

std::string outcome_text(const Outcome& outcome) {
  std::string text = "outcome: completed";
  if (!outcome.stopped.empty()) text = "outcome: stopped by " + outcome.stopped;
  if (!outcome.completed) text = "outcome: not completed: " + outcome.error;
  const char* before = "; lost: ";
  for (const Membership::Loss& loss : outcome.lost) {
    text += before + loss.reason;
    before = "; ";
  }
  for (const auto& [name, fact] : outcome.facts.facts) text += fmt::format("; {} {}", name, fact);
  return text;
}

}  // namespace cohort
