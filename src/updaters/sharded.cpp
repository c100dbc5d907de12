// Sharded data parallelism (ZeRO, Rajbhandari et al., SC20, arXiv 1910.02054): every rank keeps and updates a block of each
// bucket. Stage 1: the optimizer's state; 2: the gradients as well; 3: the parameters as well. A step reduce-scatters the
// gradients, updates, and gathers the parameters: after the update in stages 1 and 2, where they are read in stage 3.
#include <fmt/core.h>

#include <optional>

#include "exchange/zero_streamed_reduction.hpp"
#include "params/slice_update.hpp"
#include "updaters/exchange_updater.hpp"
#include "updaters/parameter_window.hpp"

namespace cohort {
namespace {

struct ShardedOptions {
  std::int64_t stage = 1;
  std::string gather_codec = "fp32";

  explicit ShardedOptions(Section& section) {
    section.bind("stage", stage, "what a rank keeps its blocks of alone: 1: optimizer state; 2: and gradients; 3: and parameters", between(1, 3));
    section.bind("gather_codec", gather_codec, "stage 3: how parameters travel to where they are read; each rank keeps its own in float32",
                 one_of(Registry<CodecType>::instance().names()));
  }
};

class Sharded final : public ExchangeUpdater {
 public:
  Sharded(Communicator& communicator, Parameters& parameters, const Optimizer& optimizer, Session& session, const UpdaterOptions& options,
          const ShardedOptions& sharding)
      : ExchangeUpdater(parameters.layout(), options), communicator_(communicator), parameters_(parameters), stage_(sharding.stage),
        ranges_(bucket_ranges(parameters.layout(), options.exchange)), profile_(*communicator.context().profile),
        update_name_(profile_.name("optimizer")) {
    refuse(options, sharding);
    place(session, options.exchange.collective, sharding);
    exchange_by(std::make_unique<GradientExchange>(communicator, parameters.layout(), session.device(), options.exchange, reduction_builder()));
    if (optimizer.sums() > 0) partials_.emplace(communicator, ranges_, optimizer.sums(), 0, options.exchange.collective);
    update_.emplace(parameters, optimizer, session.device(), session.pool(), reduction().owned(), partials_ ? &*partials_ : nullptr);
  }

  void poll() override {
    ExchangeUpdater::poll();
    if (window_) window_->poll();
  }
  void follow_gradients(std::span<const std::size_t> order) override {
    ExchangeUpdater::follow_gradients(order);
    if (streamed_ != nullptr) streamed_->follow(order);
  }
  void follow_reads(std::span<const std::size_t> order) override { window_->follow(order); }
  void before_read(std::span<const std::size_t> parameters) override {
    const PhaseScope communicating(profile_, Phase::exchange);
    window_->need(parameters);
  }
  bool reads_on_demand() const noexcept override { return window_.has_value(); }
  UpdaterMemory memory() const noexcept override {
    UpdaterMemory memory = ExchangeUpdater::memory();
    memory.window = window_ ? window_->bytes() : 0;
    return memory;
  }

  void parameters_changed() override { gather(0); }

  std::string memory_plan() const override {
    const auto mib = [](std::int64_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); };
    std::int64_t largest = 0;
    for (const FlatRange& range : ranges_) largest = std::max(largest, range.n * static_cast<std::int64_t>(sizeof(float)));
    std::string text = fmt::format("sharded, stage {}: this rank keeps {:.2f} MiB of parameters, {:.2f} of gradients, {:.2f} of optimizer state", stage_,
                                   mib(parameters_.values().bytes()), mib(reduction().memory().kept), mib(parameters_.slot_bytes()));
    if (stage_ > 1) text += fmt::format("; gradients pass through two buffers of {:.2f} MiB", mib(largest));
    if (window_) text += fmt::format(", parameters through {} of {:.2f} MiB together", window_->slots(), mib(window_->bytes()));
    if (window_ && window_->exact() && !codec_named(gather_codec_)->exact())
      text += fmt::format("\nupdater.gather_codec = \"{}\" has no effect: {}", gather_codec_,
                          communicator_.size() == 1 ? "one rank sends no parameters"
                                                    : "all ranks are on one machine, where parameters go in float32, which is faster");
    return text;
  }

 private:
  void update(const StepInfo& info) override {
    {
      const TraceSpan span(profile_, profile_.main(), update_name_);
      update_->run(info, [this, &info] { partials_->share(info.applied); });
    }
    gather(info.applied);
  }

  ReductionBuilder reduction_builder() {
    if (stage_ == 1) return build_reduction<ZeroStoreReduction>;
    return [this](const ReductionContext& context) {
      auto streamed = std::make_unique<ZeroStreamedReduction>(context);
      streamed_ = streamed.get();
      return streamed;
    };
  }

  void refuse(const UpdaterOptions& options, const ShardedOptions& sharding) const {
    check(options.exchange.thread != "on" || stage_ == 1, Code::invalid_argument,
          "exchange.thread = \"on\": stages 2 and 3 of the sharded updater work on the main thread");
    check(stage_ == 3 || sharding.gather_codec == "fp32", Code::invalid_argument,
          "updater.gather_codec = \"" + sharding.gather_codec + "\": below stage 3 there are no float32 parameters beside the gathered ones, so it must be fp32");
  }

  void place(Session& session, CollectiveOptions options, const ShardedOptions& sharding) {
    std::vector<FlatRange> owned;
    for (const FlatRange& range : ranges_) {
      const Block mine = block_of(communicator_.rank(), communicator_.size(), static_cast<std::size_t>(range.n));
      owned.push_back({range.begin + static_cast<std::int64_t>(mine.begin), static_cast<std::int64_t>(mine.size)});
    }
    gather_codec_ = sharding.gather_codec;
    options = options.with_codec(gather_codec_);
    options.rank_order = false;      // nothing is summed
    if (stage_ == 3) {
      window_.emplace(communicator_, parameters_, session.graph(), ranges_, options);
      parameters_.place_window(session, Shard(owned, communicator_.size()), [&](std::size_t p) { return window_->window(session.device(), p); });
      return;
    }
    collective_ = make_collective(communicator_, options);
    parameters_.place(session, {.allocate = [this](std::size_t bytes) { return collective_->allocate(bytes); }},
                      Shard(owned, communicator_.size()));
    for (std::size_t b = 0; b < ranges_.size(); ++b) {
      gathers_.push_back(&collective_->all_gather(
          {.id = static_cast<int>(b), .data = parameters_.values().at(ranges_[b].begin), .n = static_cast<std::size_t>(ranges_[b].n)}));
    }
  }

  /// Collective. What the others have updated reaches this rank: now, or when it is read.
  void gather(std::int64_t step) {
    if (window_) {
      window_->invalidate();
      return;
    }
    const PhaseScope communicating(profile_, Phase::exchange);
    for (Work* gather : gathers_) gather->start(step);
    for (Work* gather : gathers_) gather->wait();
  }

  Communicator& communicator_;
  Parameters& parameters_;
  std::int64_t stage_;
  std::string gather_codec_;
  std::vector<FlatRange> ranges_;           // of the buckets
  std::optional<ParameterWindow> window_;   // stage 3
  std::unique_ptr<Collective> collective_;  // stages 1 and 2: gathers parameters
  std::vector<Work*> gathers_;              // by bucket
  ZeroStreamedReduction* streamed_ = nullptr;      // stages 2 and 3: that of the exchange
  std::optional<UnitTable> partials_;       // the optimizer's sums, if it has some
  std::optional<SliceUpdate> update_;
  Profile& profile_;
  std::uint32_t update_name_;               // in a trace
};

const Registered<UpdaterType> sharded{
    "sharded", {.make = [](Section& section) -> UpdaterBuilder {
                  return [options = ShardedOptions(section)](Communicator& c, Parameters& p, const Optimizer& o, Session& s, const UpdaterOptions& u) {
                    return std::make_unique<Sharded>(c, p, o, s, u, options);
                  };
                },
                .places_parameters = true}};

}  // namespace
}  // namespace cohort
