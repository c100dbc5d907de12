#include "cohort/params/parameter_groups.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <optional>

namespace cohort {
namespace {

bool matches(const ParameterGroup& group, const std::string& name) {
  return fnmatch(group.pattern.c_str(), name.c_str(), 0) == 0;
}

}  // namespace

ParameterGroups::ParameterGroups(Section& optimizer) {
  optimizer.bind("no_decay_on_1d", no_decay_on_1d_, "no weight decay on biases and scales, unless a group says so");
  for (Section* section : optimizer.children("group")) {
    Entry entry;
    entry.where = section->path() + " " + std::to_string(entries_.size() + 1);
    entry.group.pattern.clear();
    section->bind("pattern", entry.group.pattern, "shell pattern on the parameters' names: \"*/bias\"");
    section->bind("learning_rate_factor", entry.group.learning_rate_factor, "times the learning rate", at_least(0));
    std::optional<bool> decay;
    section->bind("decay", decay, "weight decay, and layer-wise scaling with lars and lamb");
    entry.says_decay = decay.has_value();
    entry.group.decay = decay.value_or(entry.group.decay);
    section->bind("frozen", entry.group.frozen, "never updated");
    check(!entry.group.pattern.empty(), Code::invalid_argument,
          entry.where + ": needs a pattern, as in pattern = \"*/bias\"");
    entries_.push_back(std::move(entry));
  }
  entries_.emplace_back();
}

std::size_t ParameterGroups::first_match(const std::string& name) const {
  std::size_t entry = 0;
  while (entry + 1 < entries_.size() && !matches(entries_[entry].group, name)) ++entry;
  return entry;
}

std::vector<ParameterGroup> ParameterGroups::assign(std::span<const std::string> names,
                                                    std::span<const Shape> shapes) const {
  check(names.size() == shapes.size(), Code::internal, "parameter groups: names and shapes of different number");
  std::vector<ParameterGroup> result;
  std::vector<bool> used(entries_.size(), false);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::size_t match = first_match(names[i]);
    used[match] = true;
    result.push_back(entries_[match].group);
    if (!entries_[match].says_decay) result.back().decay = !no_decay_on_1d_ || shapes[i].rank() > 1;
  }
  for (std::size_t e = 0; e + 1 < entries_.size(); ++e) {
    if (used[e]) continue;
    const ParameterGroup& group = entries_[e].group;
    const bool shadowed = std::any_of(names.begin(), names.end(), [&](const auto& name) { return matches(group, name); });
    std::string text = entries_[e].where + ": pattern '" + group.pattern + "' " +
                       (shadowed ? "matches only parameters of earlier groups" : "matches no parameter") + "; parameters:";
    for (const auto& name : names) text += " " + name;
    fail(Code::not_found, text);
  }
  return result;
}

}  // namespace cohort
