#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/train/parameters.hpp"

namespace cohort {

struct ExchangeOptions {
  double first_bucket_mib = 1;      ///< small, so that communication starts early
  double bucket_mib = 25;
  CollectiveOptions collective;

  ExchangeOptions() = default;
  explicit ExchangeOptions(Section& section);
};

/// Sums the gradients over the ranks, bucket by bucket in one fixed order, while the backward pass still runs. Gradients are
/// written straight into the memory of their bucket, which the collective gives. On a device that the host cannot see they
/// pass through host memory.
///
/// The last bucket also carries a few words of each rank (loss, wish to stop), so that a step needs no message of its own.
class GradientExchange {
 public:
  static constexpr std::size_t kWords = 16;

  /// Collective.
  GradientExchange(Communicator& communicator, const Parameters& parameters, Device& device, const ExchangeOptions& options);

  /// Where the gradient of a parameter is to be written.
  [[nodiscard]] Tensor gradient(std::size_t parameter) const;

  /// Collective, each: one step is begin, ready(p) once for every p in any order, poll any number of times, finish.
  void begin(std::int64_t step);
  void ready(std::size_t parameter);
  void poll();
  /// Launches what is left and waits. Afterwards gradients and words are sums over the ranks.
  void finish(std::span<const float> words);

  void zero_gradients();                                             ///< a rank without samples
  /// Gradient accumulation: what has been accumulated is added to the gradient, or the gradient to it.
  void accumulate(std::size_t parameter);
  void add_accumulated(std::size_t parameter);
  void clear_accumulated();

  [[nodiscard]] float word(std::size_t i) const;                    ///< sum over the ranks
  /// Of all gradients, in double and in an order that does not depend on buckets. Not finite if any gradient is not.
  [[nodiscard]] double sum_of_squares() const;
  [[nodiscard]] Collective& collective() const noexcept { return *collective_; }
  [[nodiscard]] std::size_t buckets() const noexcept { return buckets_.size(); }
  [[nodiscard]] std::int64_t bytes() const noexcept;                ///< of all buckets

 private:
  struct Bucket {
    std::size_t first = 0, last = 0;        // parameters [first, last)
    std::int64_t begin = 0, n = 0;          // of the flat index space; n includes the words in the last bucket
    Buffer memory{};                        // host memory of the collective
    Tensor on_device{};                     // staging: empty where the host sees the device's memory
    Work* work = nullptr;
    std::size_t pending = 0;
    [[nodiscard]] float* data() const { return static_cast<float*>(memory.memory.get()); }
  };

  void make_buckets(const ExchangeOptions& options);
  void launch_full_buckets(std::size_t end);
  void launch(Bucket& bucket);
  [[nodiscard]] float* host_gradient(std::size_t parameter) const;
  [[nodiscard]] Tensor accumulated(std::size_t parameter);

  const Parameters& parameters_;
  Device& device_;
  Profile& profile_;
  std::vector<Bucket> buckets_;             // outlive the collective: after an error its messages may still be on their way
  std::unique_ptr<Collective> collective_;
  std::vector<std::size_t> bucket_of_;      // by parameter
  std::vector<float> accumulated_;          // by flat index; empty until the first use
  std::int64_t step_ = -1;
  std::size_t launched_ = 0;
};

}  // namespace cohort
