#include "cohort/base/profile.hpp"

#include <algorithm>

#include "cohort/base/options.hpp"

namespace cohort {
namespace {

struct PhaseName {
  std::string_view key, name;
};
constexpr std::array<PhaseName, kPhases> kNames{{{"compute", "compute"},
                                                 {"communication", "exposed communication"},
                                                 {"slowest_rank", "waiting for the slowest rank"},
                                                 {"data", "waiting for data"},
                                                 {"checkpoint", "checkpoint"},
                                                 {"validation", "validation"},
                                                 {"other", "other"}}};

constexpr std::size_t at(Phase phase) { return static_cast<std::size_t>(phase); }

/// What a span of the trace would not explain better than those in it and around it.
constexpr bool is_background(Phase phase) { return phase == Phase::compute || phase == Phase::other; }

}  // namespace

std::string_view name(Phase phase) noexcept { return kNames[at(phase)].name; }
std::string_view key(Phase phase) noexcept { return kNames[at(phase)].key; }

TraceOptions::TraceOptions(Section& section) {
  section.bind("record", record, "write trace.json, which Perfetto (ui.perfetto.dev) shows: every kernel, wait and bucket of all ranks");
  section.bind("first_step", first_step, "first step in the trace", at_least(1));
  section.bind("last_step", last_step, "last step in the trace; 0: to the end", at_least(0));
  section.bind("max_events", max_events, "memory for the events of one thread, 48 bytes each; the trace ends with the last step that fits",
               between(1024, 1 << 26));
}

void Profile::start(const Clock& clock, const TraceOptions& trace) {
  clock_ = &clock;
  trace_ = trace;
  times_ = at_step_ = {};
  phase_ = Phase::other;
  step_ = -1;
  steps_ = 0;
  step_seconds_ = 0;
  events_at_step_ = most_events_ = 0;
  if (!step_histogram_) step_histogram_ = std::make_unique<DurationHistogram>();
  step_histogram_->clear();
  for (std::size_t p = 0; p < kPhases; ++p) {
    if (!phase_histograms_[p]) phase_histograms_[p] = std::make_unique<DurationHistogram>();
    phase_histograms_[p]->clear();
    phase_names_[p] = name(kNames[p].name);
  }
  step_name_ = name("step");
  make_room(*main_, trace_.max_events);
  for (const auto& lane : others_) make_room(*lane, trace_.max_events / 4);
  running_ = true;
  since_ = started_ = clock_->now();
}

void Profile::make_room(TraceLane& lane, std::int64_t events) const {
  lane.events_.clear();
  lane.dropped_ = 0;
  if (trace_.record) lane.events_.reserve(static_cast<std::size_t>(events));
}

void Profile::stop() noexcept {
  if (!running_) return;
  record(false);
  (void)enter(Phase::other);
  stopped_ = since_;
  running_ = false;
}

void Profile::record(bool on) noexcept {
  main_->on_.store(on, std::memory_order_release);
  for (const auto& lane : others_) lane->on_.store(on, std::memory_order_release);
}

/// For one more step as large as the largest, with something to spare: a trace ends between two steps.
bool Profile::has_room() noexcept {
  return main_->dropped_ == 0 && main_->events_.size() + 2 * most_events_ + 64 <= main_->events_.capacity();
}

Phase Profile::enter(Phase phase) noexcept {
  const Phase before = phase_;
  if (!running_) return before;
  const double now = clock_->now();
  times_[at(phase_)] += now - since_;
  since_ = now;
  phase_ = phase;
  return before;
}

void Profile::leave(Phase before, double began, double least) noexcept {
  if (!running_) return;
  const Phase phase = enter(before);
  if (!main_->on() || is_background(phase) || since_ - began < least) return;
  main_->add({.begin = began, .end = since_, .name = phase_names_[at(phase)], .step = step()});
}

void Profile::begin_step(std::int64_t step) noexcept {
  if (!running_) return;
  (void)enter(phase_);
  step_.store(step, std::memory_order_relaxed);
  step_began_ = since_;
  at_step_ = times_;
  if (!trace_.record) return;
  most_events_ = std::max(most_events_, main_->events_.size() - events_at_step_);
  events_at_step_ = main_->events_.size();
  record(step >= trace_.first_step && (trace_.last_step == 0 || step <= trace_.last_step) && has_room());
}

void Profile::end_step() noexcept {
  if (!running_) return;
  (void)enter(phase_);
  ++steps_;
  step_seconds_ += since_ - step_began_;
  step_histogram_->add(since_ - step_began_);
  for (std::size_t p = 0; p < kPhases; ++p) phase_histograms_[p]->add(times_[p] - at_step_[p]);
  if (main_->on()) main_->add({.begin = step_began_, .end = since_, .name = step_name_, .step = step()});
  step_.store(-1, std::memory_order_relaxed);
}

PhaseTimes Profile::times() const {
  PhaseTimes times = times_;
  if (running_) times[at(phase_)] += clock_->now() - since_;
  return times;
}

double Profile::wall() const { return (running_ ? clock_->now() : stopped_) - started_; }

double Profile::phase_quantile(Phase phase, double q) const {
  const auto& histogram = phase_histograms_[at(phase)];
  return histogram ? histogram->quantile(q) : 0;
}

std::uint32_t Profile::name(std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (const auto known = numbers_.find(text); known != numbers_.end()) return known->second;
  const auto number = static_cast<std::uint32_t>(names_.size());
  names_.emplace_back(text);
  numbers_.emplace(text, number);
  return number;
}

TraceLane& Profile::lane(std::string_view name) {
  for (const auto& lane : others_) {
    if (lane->name() == name) return *lane;
  }
  others_.push_back(std::make_unique<TraceLane>(std::string(name)));
  if (running_) make_room(*others_.back(), trace_.max_events / 4);
  return *others_.back();
}

std::vector<const TraceLane*> Profile::lanes() const {
  std::vector<const TraceLane*> all{main_.get()};
  for (const auto& lane : others_) all.push_back(lane.get());
  return all;
}

}  // namespace cohort
