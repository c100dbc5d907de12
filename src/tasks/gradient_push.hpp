#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "cohort/params/residual_keeper.hpp"
#include "exchange/gradient_store.hpp"
#include "tasks/messages.hpp"
#include "tasks/task_layout.hpp"

namespace cohort {

/// A worker's gradients on their way to all parameter tasks: each piece leaves when the parameters in it are ready, while the
/// backward pass goes on. Keeps what a lossy codec loses. One thread.
class GradientPush final : public ResidualKeeper {
 public:
  GradientPush(Communicator& client, const TaskLayout& layout, const ParameterLayout& parameters, const GradientStore& gradients, Device& device);

  /// The next gradient. Waits until the last one has left.
  void begin(std::int64_t step);
  void ready(std::size_t parameter);
  /// Never blocks. True when the last gradient has left.
  bool poll();
  /// All parameters are ready; what has not left does so from here on. The gradient's number.
  std::int64_t finish();
  /// After `finish`: would a value of it arrive as infinity, since its codec has no such large numbers?
  [[nodiscard]] bool overflows() const noexcept { return overflows_; }

  /// Between gradients: what has not been delivered by now is what `take_back` returns to, where those that follow do not
  /// count.
  void keep();
  void take_back();

  [[nodiscard]] std::int64_t bytes() const noexcept;

  [[nodiscard]] bool keeps_residuals() const noexcept override { return !residual_.empty(); }
  void save(StateWriter& writer) const override;         ///< of residuals
  void load(StateReader& reader) override;
  [[nodiscard]] std::int64_t residual_layout() const override { return 0; }      // all elements of all parameters
  void flush_residuals() noexcept override { flushes_ = true; }

 private:
  struct Task {
    const WireLayout* layout = nullptr;
    std::vector<int> missing;                // by piece: parameters that are not ready
    std::vector<PieceHeader> headers;
    std::vector<std::byte> wire;
    std::vector<Transfer> out;               // the header, then header and floats of each piece
    PushHeader header;
    std::size_t sent = 0;                    // pieces
    std::size_t gone = 0;                    // transfers
  };
  void send_ready(std::size_t task);
  const void* encoded(Task& task, std::size_t number, const Piece& piece);
  [[nodiscard]] const float* gradient(std::int64_t flat) const;
  [[nodiscard]] Tensor residual_of(const Parameter& parameter) const;
  [[nodiscard]] bool left(Task& task);

  Communicator& client_;
  const TaskLayout& layout_;
  const ParameterLayout& parameters_;
  const GradientStore& gradients_;
  Device& device_;
  std::vector<Task> tasks_;
  std::vector<std::vector<std::pair<std::size_t, std::size_t>>> pieces_of_;   // by parameter: task, piece
  std::vector<float> residual_, kept_, staged_;
  std::int64_t number_ = 0;
  bool coded_ = false, flushes_ = false, kept_flushes_ = false, overflows_ = false;
};

}  // namespace cohort
