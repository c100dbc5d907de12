#include "cohort/faults/fault_injection.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"

namespace cohort {
namespace {

constexpr std::array<std::string_view, 7> kNames{"none", "delay", "drop", "duplicate", "kill", "pause", "slow"};

std::string_view name(Fault::Kind kind) { return kNames[static_cast<std::size_t>(kind)]; }

bool takes_seconds(Fault::Kind kind) { return kind == Fault::Kind::delay || kind == Fault::Kind::pause || kind == Fault::Kind::slow; }

bool in(const std::vector<std::int64_t>& ranks, int rank) {
  return ranks.empty() || std::ranges::find(ranks, rank) != ranks.end();
}

/// True with the entry's probability, for ever the same for the same keys.
bool happens(const Fault& fault, std::initializer_list<std::uint64_t> keys) {
  if (fault.probability >= 1) return true;
  std::uint64_t bits = 0;
  for (const std::uint64_t key : keys) {
    const auto words = philox(fault.seed, bits, key);
    bits = std::uint64_t{words[0]} << 32 | words[1];
  }
  return static_cast<double>(bits >> 11) * 0x1p-53 < fault.probability;
}

void check_ranks(std::string_view what, const std::vector<std::int64_t>& list, int ranks, const std::string& entry) {
  for (const std::int64_t rank : list) {
    if (rank >= 0 && rank < ranks) continue;
    fail(Code::invalid_argument, fmt::format("{}: {}: there is no rank {}, the job has ranks 0 to {}", entry, what, rank, ranks - 1));
  }
}

void check_fault(const Fault& fault, int ranks, std::size_t number) {
  const std::string entry = fmt::format("[[fault]] number {}", number + 1);
  const auto need = [&](bool ok, const std::string& text) { if (!ok) fail(Code::invalid_argument, entry + ": " + text); };
  if (fault.kind == Fault::Kind::none) return;
  check_ranks("ranks", fault.ranks, ranks, entry);
  check_ranks("peers", fault.peers, ranks, entry);
  need(fault.of_messages() || fault.peers.empty(),
       fmt::format("{} befalls a rank, not its messages: it takes no peers", name(fault.kind)));
  need(fault.probability >= 0 && fault.probability <= 1, fmt::format("probability is {}, allowed: 0 to 1", fault.probability));
  need(fault.seconds >= 0, fmt::format("seconds is {}, allowed: 0 or more", fault.seconds));
  need(takes_seconds(fault.kind) == (fault.seconds > 0),
       fmt::format("{} {}", name(fault.kind), takes_seconds(fault.kind) ? "needs seconds above 0" : "takes no seconds"));
  need(fault.until_step == 0 || fault.until_step > fault.from_step,
       fmt::format("no step is from {} and before {} (until_step = 0: for ever)", fault.from_step, fault.until_step));
}

std::string list_text(std::string_view one, const std::vector<std::int64_t>& ranks) {
  std::string text = fmt::format("{}{}", one, ranks.size() == 1 ? "" : "s");
  for (const std::int64_t rank : ranks) text += fmt::format(" {}", rank);
  return text;
}

}  // namespace

Fault Fault::from(Section& section) {
  Fault fault;
  std::string kind(name(fault.kind));
  section.bind("kind", kind, "messages: delay, drop, duplicate; at the beginning of a step: kill, pause (the process), slow (a sleep)",
               one_of({kNames.begin(), kNames.end()}));
  fault.kind = static_cast<Kind>(std::ranges::find(kNames, kind) - kNames.begin());
  section.bind("ranks", fault.ranks, "on which it happens; empty: all", at_least(0));
  section.bind("peers", fault.peers, "to which the messages go; empty: all", at_least(0));
  section.bind("from_step", fault.from_step, "the first step; what comes before a run's first step is of step -1", at_least(-1));
  section.bind("until_step", fault.until_step, "the first step without it; 0: for ever", at_least(0));
  section.bind("probability", fault.probability, "of each message, or of each step", between(0, 1));
  section.bind("seconds", fault.seconds, "of delay, pause and slow", between(0, 1e9));
  section.bind("seed", fault.seed, "the same seed: the same messages and steps");
  return fault;
}

bool Fault::on(int rank, std::int64_t step) const noexcept {
  return step >= from_step && (until_step == 0 || step < until_step) && in(ranks, rank);
}

std::string Fault::text() const {
  std::string text(name(kind));
  if (seconds > 0) text += fmt::format(" by {:g} s", seconds);
  text += ranks.empty() ? " on all ranks" : " on " + list_text("rank", ranks);
  if (!peers.empty()) text += " to " + list_text("rank", peers);
  text += fmt::format(" from step {}", from_step);
  if (until_step > 0) text += fmt::format(" to {}", until_step - 1);
  if (probability < 1) text += fmt::format(" with probability {:g}", probability);
  return text;
}

FaultPlan::FaultPlan(std::vector<Fault> faults, int ranks) : faults_(std::move(faults)) {
  for (std::size_t i = 0; i < faults_.size(); ++i) check_fault(faults_[i], ranks, i);
}

std::shared_ptr<const FaultPlan> FaultPlan::from(Section& root, int ranks) {
  std::vector<Fault> faults;
  for (Section* entry : root.children("fault")) {
    faults.push_back(Fault::from(*entry));
    if (entry->has("kind")) continue;
    fail(Code::invalid_argument, fmt::format("[[fault]] number {}: kind is missing: delay, drop, duplicate, kill, pause or slow", faults.size()));
  }
  if (std::ranges::all_of(faults, [](const Fault& fault) { return fault.kind == Fault::Kind::none; })) return nullptr;
  return std::make_shared<const FaultPlan>(std::move(faults), ranks);
}

FaultPlan::MessageFate FaultPlan::fate(const Message& m) const {
  MessageFate fate;
  bool dropped = false;
  for (std::size_t i = 0; i < faults_.size(); ++i) {
    const Fault& fault = faults_[i];
    if (!fault.of_messages() || !fault.on(m.rank, m.step) || !in(fault.peers, m.peer)) continue;
    const std::uint64_t from_to = std::uint64_t{static_cast<std::uint32_t>(m.rank)} << 32 | static_cast<std::uint32_t>(m.peer);
    if (!happens(fault, {i, from_to, static_cast<std::uint64_t>(m.step), m.group, static_cast<std::uint64_t>(m.tag),
                         static_cast<std::uint64_t>(m.number)})) continue;
    if (fault.kind == Fault::Kind::drop) dropped = true;
    if (fault.kind == Fault::Kind::duplicate) ++fate.copies;
    if (fault.kind == Fault::Kind::delay) fate.delay += fault.seconds;
  }
  if (dropped) fate.copies = 0;
  return fate;
}

FaultPlan::StepFate FaultPlan::fate(int rank, std::int64_t step) const {
  StepFate fate;
  for (std::size_t i = 0; i < faults_.size(); ++i) {
    const Fault& fault = faults_[i];
    if (fault.of_messages() || !fault.on(rank, step)) continue;
    if (!happens(fault, {i, static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(step)})) continue;
    if (fault.kind == Fault::Kind::kill) fate.killed = true;
    if (fault.kind == Fault::Kind::pause) fate.pause += fault.seconds;
    if (fault.kind == Fault::Kind::slow) fate.slow += fault.seconds;
  }
  return fate;
}

bool FaultPlan::meets_messages_of(int rank) const {
  return std::ranges::any_of(faults_, [&](const Fault& fault) { return fault.of_messages() && in(fault.ranks, rank); });
}

bool FaultPlan::meets_messages() const { return std::ranges::any_of(faults_, &Fault::of_messages); }

bool FaultPlan::drops_or_duplicates() const {
  return std::ranges::any_of(faults_, [](const Fault& fault) { return fault.kind == Fault::Kind::drop || fault.kind == Fault::Kind::duplicate; });
}

std::string FaultPlan::text() const {
  std::string text;
  for (const Fault& fault : faults_) {
    if (fault.kind != Fault::Kind::none) text += (text.empty() ? "" : "; ") + fault.text();
  }
  return text;
}

}  // namespace cohort
