// Synchronous data parallelism: every rank sums all gradients and updates all parameters, so replicas stay the same bit by bit.
#include <cmath>

#include "cohort/train/updater.hpp"

namespace cohort {
namespace {

class SyncReplicas final : public Updater {
 public:
  SyncReplicas(Communicator& communicator, Parameters& parameters, const Optimizer& optimizer, Device& device, const UpdaterOptions& options)
      : parameters_(parameters), optimizer_(optimizer), device_(device), clip_norm_(options.clip_norm),
        exchange_(communicator, parameters, device, options.exchange), profile_(*communicator.context().profile),
        update_name_(profile_.name("optimizer")) {
    const std::size_t n = parameters.trained().size();
    slot_pointers_.resize(n * parameters.slots());
    sums_.resize(optimizer.sums());
    for (std::size_t p = 0; p < n; ++p) {
      gradients_.push_back(exchange_.gradient(p));
      for (std::size_t s = 0; s < parameters.slots(); ++s) {
        slot_pointers_[p * parameters.slots() + s] = parameters.slot(s, parameters.trained()[p].offset);
      }
    }
  }

  GradientExchange& exchange() noexcept override { return exchange_; }
  void begin(const StepInfo& info) override { exchange_.begin(info.step); }
  void ready(std::size_t parameter) override { exchange_.ready(parameter); }
  void poll() override { exchange_.poll(); }

  Outcome finish(const StepInfo& info, std::span<const float> words) override {
    exchange_.finish(words);
    // All ranks hold the same sums, so they reach the same verdict without asking each other.
    const double norm = std::sqrt(exchange_.sum_of_squares());
    if (!std::isfinite(norm)) return {.applied = false, .gradient_norm = norm};
    StepInfo scaled = info;
    if (clip_norm_ > 0 && norm > clip_norm_) scaled.gradient_scale = clip_norm_ / norm;
    update_all(scaled);
    return {.applied = true, .gradient_norm = norm};
  }

 private:
  void update_all(const StepInfo& info) {
    const TraceSpan span(profile_, profile_.main(), update_name_);
    Stream& stream = device_.stream();
    if (stream.immediate() || device_.info().kernels != "CPU") {
      for (std::size_t p = 0; p < gradients_.size(); ++p) update(stream, p, info);
    } else {   // a device that runs host code later, on memory that the host may touch only then
      stream.launch([this, info] {
        for (std::size_t p = 0; p < gradients_.size(); ++p) update(host().stream(), p, info);
      });
    }
  }

  void update(Stream& stream, std::size_t p, const StepInfo& info) {
    const Parameter& parameter = parameters_.trained()[p];
    const ParameterSlice slice{.parameter = p, .group = &parameter.group, .value = parameters_.values(parameter.offset),
                               .gradient = gradients_[p].data<float>(),
                               .slots = std::span(slot_pointers_).subspan(p * parameters_.slots(), parameters_.slots()), .n = parameter.n};
    std::fill(sums_.begin(), sums_.end(), 0.0);
    if (!sums_.empty()) optimizer_.partials(stream, slice, info, sums_);
    optimizer_.update(stream, slice, sums_, info);
  }

  Parameters& parameters_;
  const Optimizer& optimizer_;
  Device& device_;
  double clip_norm_;
  GradientExchange exchange_;
  Profile& profile_;
  std::uint32_t update_name_;               // in a trace
  std::vector<Tensor> gradients_;
  std::vector<float*> slot_pointers_;       // by parameter, then slot
  std::vector<double> sums_;
};

const Registered<UpdaterType> sync_replicas{
    "sync_replicas", {[](Communicator& c, Parameters& p, const Optimizer& o, Device& d, const UpdaterOptions& options) -> std::unique_ptr<Updater> {
      return std::make_unique<SyncReplicas>(c, p, o, d, options);
    }}};

}  // namespace
}  // namespace cohort
