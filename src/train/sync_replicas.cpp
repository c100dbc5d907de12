// Synchronous data parallelism: gradients are summed over all ranks before any parameter changes, so replicas stay the same bit
// by bit. Every rank updates the parameters whose sums it gets: all, or its share of the machine's one copy.
#include <algorithm>
#include <array>
#include <cmath>

#include "cohort/train/updater.hpp"

namespace cohort {
namespace {

class SyncReplicas final : public Updater {
 public:
  SyncReplicas(Communicator& communicator, Parameters& parameters, const Optimizer& optimizer, Device& device, const UpdaterOptions& options)
      : parameters_(parameters), optimizer_(optimizer), device_(device), group_(options.group), pool_(*options.pool),
        clip_norm_(options.clip_norm),
        exchange_(communicator, parameters, device, options.exchange, options.group, options.exchange_thread),
        profile_(*communicator.context().profile), update_name_(profile_.name("optimizer")) {
    check(parameters.slots() <= kMostSlots, Code::invalid_argument, "an optimizer may have at most 8 slots");
    make_slices();
    if (optimizer_.sums() == 0) return;
    const std::size_t bytes = static_cast<std::size_t>(parameters_.flat_size() / kUnit) * optimizer_.sums() * sizeof(double);
    partials_ = group_ != nullptr ? group_->allocate(bytes) : host().allocate(bytes);
    sums_.resize(parameters_.trained().size() * optimizer_.sums());
  }

  GradientExchange& exchange() noexcept override { return exchange_; }
  void begin(const StepInfo& info) override { exchange_.begin(info.step); }
  void ready(std::size_t parameter) override { exchange_.ready(parameter); }
  void poll() override { exchange_.poll(); }

  Outcome finish(const StepInfo& info, std::span<const float> words) override {
    exchange_.finish(words);
    // All ranks hold the same sums of squares, so they reach the same verdict without asking each other.
    const double norm = std::sqrt(exchange_.sum_of_squares());
    if (!std::isfinite(norm)) return {.applied = false, .gradient_norm = norm};
    StepInfo scaled = info;
    if (clip_norm_ > 0 && norm > clip_norm_) scaled.gradient_scale = clip_norm_ / norm;
    const TraceSpan span(profile_, profile_.main(), update_name_);
    update_all(scaled);
    if (group_ != nullptr) barrier();           // from here on parameters may be read
    return {.applied = true, .gradient_norm = norm};
  }

 private:
  static constexpr std::int64_t kUnit = Parameters::kUnit;
  static constexpr std::int64_t kLongest = 64 * kUnit;       // elements of a slice: 5 streams of them fit into a second-level cache
  static constexpr std::size_t kMostSlots = 8;

  /// Cuts what this rank owns at the bounds of parameters and, where the host computes, into pieces that threads can share.
  void make_slices() {
    const bool host_kernels = device_.info().kernels == "CPU";
    const auto all = parameters_.trained();
    for (const GradientExchange::Owned& mine : exchange_.owned()) {
      for (std::size_t p = 0; p < all.size(); ++p) {
        const std::int64_t begin = std::max(mine.begin, all[p].offset), end = std::min(mine.begin + mine.n, all[p].offset + all[p].n);
        const std::int64_t longest = host_kernels ? kLongest : std::max<std::int64_t>(end - begin, 1);
        for (std::int64_t at = begin; at < end; at += longest) {
          offsets_.push_back(at);
          slices_.push_back({.parameter = p, .group = &all[p].group, .value = parameters_.values(at),
                             .gradient = mine.gradient + (at - mine.begin), .n = std::min(longest, end - at)});
          for (std::size_t s = 0; s < parameters_.slots(); ++s) slot_pointers_.push_back(parameters_.slot(s, at));
        }
      }
    }
    for (std::size_t i = 0; i < slices_.size(); ++i) {
      slices_[i].slots = std::span(slot_pointers_).subspan(i * parameters_.slots(), parameters_.slots());
    }
  }

  void barrier() {
    const PhaseScope waiting(profile_, Phase::slowest);
    group_->barrier();
  }

  void update_all(const StepInfo& info) {
    Stream& stream = device_.stream();
    const bool direct = stream.immediate() || device_.info().kernels != "CPU";
    if (!sums_.empty()) {
      if (direct) {
        add_partials(stream, info);
      } else {
        stream.launch([this, info] { add_partials(host().stream(), info); });
        stream.synchronize();
      }
      if (group_ != nullptr) barrier();
      join_partials();
    }
    // A device that runs host code later does so on memory that the host may touch only then.
    if (direct) update_slices(stream, info);
    else stream.launch([this, info] { update_slices(host().stream(), info); });
  }

  void update_slices(Stream& stream, const StepInfo& info) {
    const std::size_t width = optimizer_.sums();
    const auto range = [&](std::int64_t begin, std::int64_t end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        optimizer_.update(stream, slices_[i], std::span(sums_).subspan(slices_[i].parameter * width, width), info);
      }
    };
    if (stream.immediate()) pool_.parallel_for(std::ssize(slices_), 4, range);
    else range(0, std::ssize(slices_));
  }

  /// Unit by unit, so that the sums do not depend on how the flat space is shared out.
  void add_partials(Stream& stream, const StepInfo& info) {
    const std::size_t width = optimizer_.sums();
    auto* table = static_cast<double*>(partials_.memory.get());
    const auto range = [&](std::int64_t begin, std::int64_t end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        const std::int64_t step = stream.immediate() ? kUnit : slices_[i].n;
        for (std::int64_t at = 0; at < slices_[i].n; at += step) {
          std::array<float*, kMostSlots> slots{};
          for (std::size_t s = 0; s < slices_[i].slots.size(); ++s) slots[s] = slices_[i].slots[s] + at;
          ParameterSlice part = slices_[i];
          part.value += at;
          part.gradient += at;
          part.slots = std::span(slots).first(slices_[i].slots.size());
          part.n = std::min(step, slices_[i].n - at);
          const std::span<double> sums(table + static_cast<std::size_t>((offsets_[i] + at) / kUnit) * width, width);
          std::fill(sums.begin(), sums.end(), 0.0);
          optimizer_.partials(stream, part, info, sums);
        }
      }
    };
    if (stream.immediate()) pool_.parallel_for(std::ssize(slices_), 4, range);
    else range(0, std::ssize(slices_));
  }

  void join_partials() {
    const std::size_t width = optimizer_.sums();
    const auto* table = static_cast<const double*>(partials_.memory.get());
    const std::int64_t step = device_.info().kernels == "CPU" ? kUnit : parameters_.flat_size();
    std::fill(sums_.begin(), sums_.end(), 0.0);
    for (std::size_t p = 0; p < parameters_.trained().size(); ++p) {
      const Parameter& parameter = parameters_.trained()[p];
      for (std::int64_t at = parameter.offset; at < parameter.offset + parameter.n; at += step) {
        for (std::size_t k = 0; k < width; ++k) sums_[p * width + k] += table[static_cast<std::size_t>(at / kUnit) * width + k];
      }
    }
  }

  Parameters& parameters_;
  const Optimizer& optimizer_;
  Device& device_;
  NodeGroup* group_;
  ThreadPool& pool_;
  double clip_norm_;
  GradientExchange exchange_;
  std::vector<ParameterSlice> slices_;      // what this rank updates
  std::vector<std::int64_t> offsets_;       // by slice: of the flat index space
  std::vector<float*> slot_pointers_;       // by slice, then slot
  Buffer partials_;                         // double per unit and sum of the optimizer; the machine's in a group
  std::vector<double> sums_;                // by parameter, then sum
  Profile& profile_;
  std::uint32_t update_name_;               // in a trace
};

const Registered<UpdaterType> sync_replicas{
    "sync_replicas",
    {.make = [](Communicator& c, Parameters& p, const Optimizer& o, Device& d, const UpdaterOptions& options) -> std::unique_ptr<Updater> {
       return std::make_unique<SyncReplicas>(c, p, o, d, options);
     },
     .shared_parameters = true}};

}  // namespace
}  // namespace cohort
