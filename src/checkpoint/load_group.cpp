#include "checkpoint/load_group.hpp"

#include <algorithm>
#include <exception>
#include <source_location>

#include "base/about.hpp"
#include "cohort/comm/control.hpp"

namespace cohort {

void LoadGroup::share(std::string& text) const {
  if (size() > 1) broadcast(*ranks_, text, 0);
}

void LoadGroup::share(std::span<std::byte> data) const {
  if (size() > 1) broadcast(*ranks_, data, 0);
}

void LoadGroup::together(const std::function<void()>& work) {
  std::optional<Error> failure;
  try {
    if (work) work();
  } catch (const Error& error) {
    failure = error;
  } catch (const std::exception& error) {    // out of memory, most likely: the others must hear of it
    if (size() == 1) throw;
    failure.emplace(Code::failed_precondition, plain_text(error));
  }
  const std::vector<char> failed = gather(static_cast<char>(failure ? 1 : 0));
  if (std::ranges::count(failed, 1) > 0) fail_together(failure);
}

/// It is only good to have, and the others wait for what has happened.
std::string LoadGroup::advice() const {
  try {
    return alternative_();
  } catch (const std::exception&) {
    if (size() == 1) throw;
    return {};
  }
}

/// The error of the first rank that has one.
void LoadGroup::fail_together(const std::optional<Error>& mine) {
  std::string text = mine ? static_cast<char>(mine->code()) + std::string(mine->what()) : std::string();
  if (size() > 1) {
    for (std::string& each : all_gather(*ranks_, text)) {
      if (each.empty()) continue;
      text = std::move(each);
      break;
    }
  }
  const auto code = static_cast<Code>(text.front());
  if (leads() && (code == Code::data_loss || code == Code::not_found)) text += advice();
  share(text);
  // From one place on all ranks: failures that are alike in all are printed once.
  throw Error(code, text.substr(1), size() == 1 && mine ? mine->where() : std::source_location::current());
}

}  // namespace cohort
