#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/base/clock.hpp"
#include "cohort/base/histogram.hpp"

namespace cohort {

class Section;

/// What the main thread of a rank is busy with. Each moment of a run belongs to exactly one of them.
enum class Phase : std::uint8_t {
  compute,       ///< forward, backward, optimizer
  exchange,      ///< communication that nothing hides: the rank's main thread sends, sums, or waits for data to arrive
  slowest,       ///< waiting until the slowest rank has come as far
  data,          ///< waiting for input batches
  checkpoint,    ///< copying the state for a checkpoint, and waiting for the one before
  validation,
  other          ///< preparing steps, metrics, the rest
};
inline constexpr std::size_t kPhases = 7;
[[nodiscard]] std::string_view name(Phase phase) noexcept;         ///< for people: "waiting for data"
[[nodiscard]] std::string_view key(Phase phase) noexcept;          ///< for files: "data"
using PhaseTimes = std::array<double, kPhases>;                    ///< seconds, by phase

/// The [trace] section.
struct TraceOptions {
  bool record = false;
  std::int64_t first_step = 1, last_step = 0;    ///< 0: to the end
  std::int64_t max_events = 1 << 18;             ///< per thread; 48 bytes each

  TraceOptions() = default;
  explicit TraceOptions(Section& section);
};

/// One stretch of time on one thread.
struct TraceEvent {
  double begin = 0, end = 0;      ///< seconds of the profile's clock
  std::uint32_t name = 0;         ///< Profile::text
  std::int32_t id = -1;           ///< a bucket, a layer, … ; -1: none
  std::int64_t step = -1;
  bool overlaps = false;          ///< may overlap others of its thread (a bucket on its way); the rest nest
};

/// What one thread of a rank records; only that thread writes. Memory is taken when a trace starts; what does not fit is
/// counted and dropped.
class TraceLane {
 public:
  explicit TraceLane(std::string name) : name_(std::move(name)) {}
  /// True while steps are recorded: look before reading the clock.
  [[nodiscard]] bool on() const noexcept { return on_.load(std::memory_order_acquire); }
  void add(const TraceEvent& event) noexcept {
    if (events_.size() < events_.capacity()) events_.push_back(event);
    else ++dropped_;
  }

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// After the run.
  [[nodiscard]] const std::vector<TraceEvent>& events() const noexcept { return events_; }
  [[nodiscard]] std::int64_t dropped() const noexcept { return dropped_; }

 private:
  friend class Profile;
  std::string name_;
  std::atomic<bool> on_ = false;
  std::vector<TraceEvent> events_;
  std::int64_t dropped_ = 0;
};

/// Where the time of one rank's run goes: always the sum by phase, and on request a trace. Everything belongs to the rank's
/// main thread, but for lanes of other threads. Costs two readings of the clock per scope, allocates nothing between `start`
/// and `stop`, and does nothing at all before `start`.
class Profile {
 public:
  Profile() : main_(std::make_unique<TraceLane>("main")) {}

  /// Forgets an earlier run. The phase is `other` now.
  void start(const Clock& clock = Clock::steady(), const TraceOptions& trace = {});
  void stop() noexcept;
  [[nodiscard]] bool running() const noexcept { return running_; }
  [[nodiscard]] double now() const { return clock_->now(); }               ///< any thread

  void begin_step(std::int64_t step) noexcept;
  void end_step() noexcept;
  [[nodiscard]] std::int64_t step() const noexcept { return step_.load(std::memory_order_relaxed); }   ///< -1: none; any thread

  /// Seconds by phase so far; their sum is the wall time since `start`.
  [[nodiscard]] PhaseTimes times() const;
  [[nodiscard]] double wall() const;
  [[nodiscard]] double started() const noexcept { return started_; }                         ///< on its clock
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  [[nodiscard]] double step_seconds() const noexcept { return step_seconds_; }                ///< sum over the steps
  [[nodiscard]] double step_quantile(double q) const { return step_histogram_ ? step_histogram_->quantile(q) : 0; }
  [[nodiscard]] double phase_quantile(Phase phase, double q) const;                           ///< of its time per step

  /// The number of a name for trace events; the same for the same text. Any thread; not while steps run.
  [[nodiscard]] std::uint32_t name(std::string_view text);
  [[nodiscard]] const std::string& text(std::uint32_t name) const { return names_[name]; }
  /// The lane of a thread beside the main one, made at the first call. Main thread; not while steps run.
  [[nodiscard]] TraceLane& lane(std::string_view name);
  [[nodiscard]] TraceLane& main() noexcept { return *main_; }
  [[nodiscard]] std::vector<const TraceLane*> lanes() const;                                  ///< the main one first
  [[nodiscard]] const TraceOptions& trace() const noexcept { return trace_; }

 private:
  friend class PhaseScope;
  Phase enter(Phase phase) noexcept;
  void leave(Phase before, double began, double least) noexcept;
  void record(bool on) noexcept;

  void make_room(TraceLane& lane, std::int64_t events) const;
  [[nodiscard]] bool has_room() noexcept;

  const Clock* clock_ = &Clock::steady();
  bool running_ = false;
  double since_ = 0, started_ = 0, stopped_ = 0;
  Phase phase_ = Phase::other;
  PhaseTimes times_{};
  std::atomic<std::int64_t> step_ = -1;
  std::int64_t steps_ = 0;
  double step_began_ = 0, step_seconds_ = 0;
  PhaseTimes at_step_{};                                    // times_ when the step began
  std::unique_ptr<DurationHistogram> step_histogram_;       // made by the first start
  std::array<std::unique_ptr<DurationHistogram>, kPhases> phase_histograms_;
  TraceOptions trace_;
  std::array<std::uint32_t, kPhases> phase_names_{};
  std::uint32_t step_name_ = 0;
  std::size_t events_at_step_ = 0, most_events_ = 0;        // of the main lane; the most that one step took
  std::unique_ptr<TraceLane> main_;
  std::vector<std::unique_ptr<TraceLane>> others_;
  std::vector<std::string> names_;
  std::map<std::string, std::uint32_t, std::less<>> numbers_;
  std::mutex mutex_;                                        // guards names_ and numbers_
};

/// The main thread is in this phase until the scope ends; then it goes back to the one before. `least`: spans shorter than
/// this many seconds stay out of the trace (their time still counts).
class [[nodiscard]] PhaseScope {
 public:
  PhaseScope(Profile& profile, Phase phase, double least = 0) noexcept
      : profile_(profile), before_(profile.enter(phase)), began_(profile.since_), least_(least) {}
  ~PhaseScope() { profile_.leave(before_, began_, least_); }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  Profile& profile_;
  Phase before_;
  double began_, least_;
};

/// A span in the trace of one thread, under a name that was made beforehand. Nothing where nothing is recorded.
class [[nodiscard]] TraceSpan {
 public:
  TraceSpan(const Profile& profile, TraceLane& lane, std::uint32_t name, std::int32_t id = -1) noexcept
      : profile_(profile), lane_(lane.on() ? &lane : nullptr), name_(name), id_(id), began_(lane_ != nullptr ? profile.now() : 0) {}
  ~TraceSpan() {
    if (lane_ != nullptr) lane_->add({.begin = began_, .end = profile_.now(), .name = name_, .id = id_, .step = profile_.step()});
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  const Profile& profile_;
  TraceLane* lane_;
  std::uint32_t name_;
  std::int32_t id_;
  double began_;
};

}  // namespace cohort
