#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/exchange/step_scalars.hpp"
#include "cohort/params/gradient_range.hpp"
#include "cohort/params/node_group.hpp"
#include "cohort/params/parameters.hpp"
#include "cohort/params/residual_keeper.hpp"
#include "cohort/params/state.hpp"

namespace cohort {

class DriverThread;
class UnitTable;

struct ExchangeOptions {
  double first_bucket_mib = 1;      ///< small, so that communication starts early
  double bucket_mib = 25;
  bool shared_parameters = true;    ///< ranks of a machine keep one copy of the parameters, where they can
  std::string thread = "auto";      ///< "on", "off": from a thread of its own; "auto": where MPI allows it and a core is free
  std::int64_t dense_steps = 100;   ///< with a codec that is not exact: so many first steps of a training travel in float32
  std::string error_feedback = "auto";    ///< "on", "off": keep what the codec loses for the next step; "auto": with codecs that want it
  std::string small_codec_name = "bf16";  ///< with a codec that is not exact: how small tensors travel
  std::int64_t small_elements = 4096;     ///< fewer make a tensor small; so does having one dimension
  bool each_batch = false;  ///< every batch of an update is summed over the ranks by itself, and the sums are added up
  CollectiveOptions collective;

  ExchangeOptions() = default;
  explicit ExchangeOptions(Section& section);
  /// Does a tensor travel as small ones do?
  [[nodiscard]] bool is_small(const Shape& shape) const;
};

/// Which sums a rank gets, and where gradients lie.
struct ExchangeSetting {
  NodeGroup* group = nullptr;       ///< not null: those of its share of the machine's one copy of the parameters
  bool own_thread = false;          ///< a thread of its own drives the exchange, not `poll`, where the transport allows it
  bool blocks = false;              ///< those of its block of each bucket, over all ranks; without a group
  bool parts = false;               ///< with `blocks`: gradients stay no longer than until their bucket is summed
};

/// The buckets: parts of the flat index space, cut between parameters, and before small ones.
[[nodiscard]] std::vector<FlatRange> bucket_ranges(const Parameters& parameters, const ExchangeOptions& options);

/// Where no gradient travels through the codec that is asked for, up to that step: one line for people that says so and why;
/// else empty. `why`: what keeps gradients from it beside the options, if anything does.
[[nodiscard]] std::string codec_note(const ExchangeOptions& asked, const Parameters& parameters, std::int64_t steps, std::string why = {});

/// What became of one bucket in one step, over all ranks.
struct BucketReport {
  int bucket = 0;
  double bytes = 0;                 ///< sent, by all ranks together
  double ratio = 0;                 ///< to what the same floats are as float32; 0: nothing was sent
  double relative_error = 0;        ///< of the codec, once: |v - decoded| / |v|, v: gradient + residual, norms over all ranks
  double residual_ratio = 0;        ///< |residual| / |gradient| before the exchange; 0 without error feedback
};

/// Watches one bucket's residual ratio: error feedback works while it stays small, since then what is late is little.
class ResidualAlarm {
 public:
  /// The ratio at an observed step. Why to be alarmed, or empty: it has come over 1, or it has grown in five observations in a
  /// row and more than doubled in them. Said once, and again only after it has fallen.
  [[nodiscard]] std::string observe(double ratio);

 private:
  static constexpr int kGrowths = 5;
  double last_ = 0, before_growth_ = 0;
  int growths_ = 0;
  bool said_ = false;
};

/// Sums the gradients over the ranks, bucket by bucket in one fixed order, while the backward pass still runs. Gradients are
/// written straight into the memory of their bucket, which the collective gives. On a device that the host cannot see they
/// pass through host memory.
///
/// Alone, every rank gets all sums. In a NodeGroup a rank gets those of its share of each bucket: the ranks of a machine
/// reduce-scatter, then those with the same share on all machines all-reduce it. With `blocks` all ranks reduce-scatter. With
/// `parts` a gradient is copied into one of a few buffers when it is ready, and from there the rank's block of the sums into
/// memory of its own, batch by batch of an update: nothing else of a bucket stays.
///
/// A few words of each rank (loss, wish to stop) travel along, at the end of the last bucket or, where a rank does not get all
/// sums or the codec is not exact, right behind it.
///
/// With a codec that is not exact the first steps go in float32, and then small tensors, which are few bytes and do not share
/// scales well, have buckets of their own with a codec of their own. With error feedback (Karimireddy et al., ICML 2019; on all
/// legs of the exchange) each rank keeps what its own encodings lost in one residual per element, which it adds to its next
/// gradient: Σ ranks (gradient + residual before) = sum + Σ ranks residual after. Learning rate and clipping come after the
/// sum, so a residual is delivered at the rate of a later step. Sums have the same scale whatever way they came.
class GradientExchange final : public ResidualKeeper {
 public:
  static constexpr std::size_t kWords = StepScalars::kCount;

  /// Collective. Error failed_precondition for what the device or the setting cannot do.
  GradientExchange(Communicator& communicator, const Parameters& parameters, Device& device, const ExchangeOptions& options,
                   const ExchangeSetting& setting);
  ~GradientExchange() override;

  /// Where the gradient of a parameter is to be written; empty in parts: `ready` copies it.
  [[nodiscard]] Tensor gradient(std::size_t parameter) const;
  [[nodiscard]] bool in_parts() const noexcept { return setting_.parts; }
  /// Is every batch of an update summed over the ranks by itself? Else each rank adds up its own with `accumulate`.
  [[nodiscard]] bool each_batch() const noexcept { return each_batch_; }

  /// Collective, each: one step is begin, ready(p) once for every p in any order, poll any number of times, finish.
  void begin(std::int64_t step);
  /// `gradient`: in parts, what to copy, null for zero.
  void ready(std::size_t parameter, const Tensor* gradient = nullptr);
  void poll();
  /// With each_batch(), between the batches of a step: waits for the sums and keeps them. Then every p becomes ready anew.
  void end_batch();
  /// Launches what is left and waits. Afterwards the gradients of `owned()` and what is returned are sums over the ranks, and no rank
  /// computes gradients any more.
  StepScalars finish(const StepScalars& mine);
  /// After `finish`, where the step is skipped: what its gradients would have delivered of the residuals is as late as
  /// before.
  void take_back();

  /// The parts of the flat index space whose sums this rank gets, in order.
  [[nodiscard]] std::span<const GradientRange> owned() const noexcept { return owned_; }

  void zero_gradients();                                             ///< a rank without samples
  /// Gradient accumulation: what has been accumulated is added to the gradient, or the gradient to it.
  void accumulate(std::size_t parameter);
  void add_accumulated(std::size_t parameter);
  void clear_accumulated();

  /// Of all gradients, in double and in an order that depends on the flat index space alone. Not finite if any gradient is
  /// not. The same bits on all ranks.
  [[nodiscard]] double sum_of_squares() const;
  [[nodiscard]] std::int64_t bytes() const noexcept;                ///< of gradients: all buckets, or buffers and parts
  [[nodiscard]] std::int64_t gradient_bytes() const noexcept;       ///< of those that stay until the update
  [[nodiscard]] std::int64_t residual_bytes() const noexcept;
  [[nodiscard]] std::string text() const;                           ///< how the sums come about, for people
  /// As the function of that name says, of the ranks that train.
  [[nodiscard]] std::string codec_note(const ExchangeOptions& asked, const Communicator& ranks, std::int64_t steps) const;

  /// Collective in what it does to the next step: reports of its buckets, once it is finished. Costs a pass over the gradients.
  void observe_next_step() noexcept { observes_ = lossy_; }
  /// Of the last step, if it was observed and not all float32; else empty.
  [[nodiscard]] std::span<const BucketReport> reports() const noexcept { return reports_; }

  [[nodiscard]] bool keeps_residuals() const noexcept override { return residual_bytes() > 0; }
  void save(StateWriter& writer) const override;         ///< of residuals
  void load(StateReader& reader) override;
  [[nodiscard]] std::int64_t residual_layout() const override;
  void flush_residuals() noexcept override { flushes_ = true; }

 private:
  enum Way : std::size_t { kDense, kCoded };
  struct Bucket {
    std::size_t first = 0, last = 0;        // parameters [first, last)
    std::int64_t begin = 0, n = 0;          // of the flat index space; n includes words that travel in it
    Buffer memory{};                        // host memory of the collective; in parts one of the buffers
    Tensor on_device{};                     // staging: empty where the host sees the device's memory
    const Codec* codec = nullptr;           // null: the collective's
    std::vector<float> residual{}, residual_before{};     // of the step
    Work* work = nullptr;
    Work* between = nullptr;                // this rank's share, summed over the machines
    std::array<Work*, 2> ways{};            // of `between` in a group, else of `work`
    [[nodiscard]] float* data() const { return static_cast<float*>(memory.memory.get()); }
  };

  struct Norms {
    double wanted = 0, lost = 0, given = 0, residual = 0;     // squares: gradient + residual, what its encoding loses, gradient
  };

  void make_buckets(const ExchangeOptions& options);
  void keep_residuals(const ExchangeOptions& options);
  [[nodiscard]] Tensor residual_of(std::size_t parameter) const;        // zeros where there is none
  void take(Way way);
  [[nodiscard]] Work* make_way(std::size_t bucket, Way way);
  [[nodiscard]] bool is_last(const Bucket& bucket) const noexcept { return &bucket == &buckets_.back(); }
  [[nodiscard]] const Codec& codec_of(const Bucket& bucket) const;
  [[nodiscard]] Block coded_part(const Bucket& bucket) const;           // what a codec sees of a bucket
  void observe(std::size_t bucket);
  void report();
  [[nodiscard]] bool words_apart() const noexcept { return group_ != nullptr || setting_.blocks || lossy_; }
  void prepare_blocks(Communicator& communicator, const CollectiveOptions& options);
  void take_buffer(std::size_t bucket);
  void copy_gradient(std::size_t parameter, const Tensor* gradient);
  void wait_for_block(std::size_t bucket);
  void keep_block(std::size_t bucket);
  void keep_sums();
  void add_kept_sums();
  [[nodiscard]] float* host_sums(std::size_t bucket) const;
  void launch_all();
  void prepare(Bucket& bucket, std::size_t id);
  void prepare_words(Communicator& communicator, const CollectiveOptions& options);
  [[nodiscard]] bool drive();               // any one thread; true when all buckets have their sums
  void launch(std::size_t bucket);
  void wait_for_buckets();
  void fetch_staged();
  void measure();
  void share_squares();
  [[nodiscard]] float* host_gradient(std::size_t parameter) const;
  [[nodiscard]] Tensor accumulated(std::size_t parameter);

  const Parameters& parameters_;
  Device& device_;
  Profile& profile_;
  NodeGroup* group_;
  ExchangeSetting setting_;
  bool lossy_ = false;                      // the codec is not exact and something travels through it
  std::int64_t dense_steps_ = 0;
  std::string codec_name_, small_codec_name_;
  std::shared_ptr<const Codec> dense_codec_, small_codec_;
  std::vector<Bucket> buckets_;             // outlive the collectives: after an error their messages may still be on their way
  std::array<float, kWords> words_{};
  std::unique_ptr<UnitTable> squares_;      // Σ g²
  std::unique_ptr<Collective> collective_, between_, words_collective_;
  Work* words_work_ = nullptr;              // in a group, or with a codec that is not exact
  std::vector<GradientRange> owned_;
  std::vector<std::size_t> bucket_of_;      // by parameter
  std::vector<std::atomic<std::size_t>> pending_;   // by bucket: what must be there before it starts
  std::vector<float> accumulated_;          // by flat index; empty until the first use
  bool each_batch_;
  std::vector<float> kept_sums_;  // with each_batch_, not in parts: of earlier batches, one owned range behind the other
  struct Held { Buffer memory; std::int64_t bucket = -1; };
  std::vector<Held> buffers_;               // in parts: each with the last bucket that lay in it
  std::vector<std::int64_t> buffer_of_;     // in parts, by bucket; -1: not known before the first step
  std::int64_t largest_ = 0;                // elements of the largest bucket
  Tensor parts_{};                          // in parts: this rank's sums, block by block
  std::size_t kept_ = 0;                    // in parts: so many buckets have been summed and kept
  std::int64_t batch_ = 0;                  // of the update
  bool observes_ = false, flushes_ = false, flushed_ = false, coded_ = false;     // this step's
  std::vector<Norms> norms_;                // by bucket, of an observed step
  std::vector<BucketReport> reports_;
  std::vector<ResidualAlarm> alarms_;       // by bucket
  std::int64_t step_ = -1;
  std::size_t launched_ = 0, launched_between_ = 0;
  std::atomic<bool> all_there_ = false;     // every rank is known to have come to its last bucket
  std::string why_no_thread_;               // although one is wanted: for people
  std::unique_ptr<DriverThread> thread_;    // last: it uses the others; null: poll drives
};

}  // namespace cohort
