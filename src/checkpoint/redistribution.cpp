#include "checkpoint/redistribution.hpp"
#include "cohort/comm/control.hpp"

#include <functional>
#include <string>
#include <utility>

namespace cohort {
namespace {

/// Shows residuals, which are whole tensors, one after the other.
class EachResidual final : public StateWriter {
 public:
  explicit EachResidual(std::function<void(std::size_t, const Tensor&)> show) : show_(std::move(show)) {}
  void tensor(const std::string&, const Tensor& value) override { show_(next_++, value); }
  void piece(const std::string&, const Shape&, std::int64_t, const Tensor&) override {}
  void value(const std::string&, std::int64_t) override {}
  void value(const std::string&, double) override {}
  void text(const std::string&, const std::string&) override {}

 private:
  std::function<void(std::size_t, const Tensor&)> show_;
  std::size_t next_ = 0;
};

/// Makes sums the residuals of a keeper, in its order; where there is none they stay.
class FromSums final : public StateReader {
 public:
  explicit FromSums(const std::vector<std::vector<float>>& sums) : sums_(sums) {}
  void tensor(const std::string&, const Tensor& value) override {
    const std::size_t residual = next_++;
    if (residual < sums_.size() && !sums_[residual].empty()) value.copy_from(Tensor::of(value.shape(), sums_[residual]));
  }
  void piece(const std::string&, const Shape&, std::int64_t, const Tensor&) override {}
  void value(const std::string&, std::int64_t&) override {}
  void value(const std::string&, double&) override {}
  void text(const std::string&, std::string&) override {}

 private:
  const std::vector<std::vector<float>>& sums_;
  std::size_t next_ = 0;
};

}  // namespace

std::vector<int> Redistribution::inherited_by(int me) const {
  std::vector<int> ranks;
  for (int rank = me; rank < before_; rank += after_) ranks.push_back(rank);
  return ranks;
}

std::vector<float>& Redistribution::sum(std::size_t residual) {
  if (residual >= sums_.size()) sums_.resize(residual + 1);
  return sums_[residual];
}

void Redistribution::begin_with_zeros(const ResidualKeeper& keeper) {
  EachResidual zeros([this](std::size_t residual, const Tensor& value) { sum(residual).assign(static_cast<std::size_t>(value.elements()), 0.f); });
  keeper.save(zeros);
}

void Redistribution::add(const ResidualKeeper& keeper) {
  EachResidual added([this](std::size_t residual, const Tensor& value) { add(residual, value.to_vector<float>()); });
  keeper.save(added);
}

void Redistribution::add(std::size_t residual, const std::vector<float>& values) {
  std::vector<float>& sum = this->sum(residual);
  if (sum.empty()) {
    sum = values;
    return;
  }
  check(sum.size() == values.size(), Code::internal, "residuals of one parameter have different sizes on the ranks");
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
}

bool Redistribution::finish(Communicator& ranks, ResidualKeeper* keeper, std::optional<std::int64_t> layout) const {
  if (keeper != nullptr) {
    FromSums sums(sums_);
    keeper->load(sums);
  }
  const bool moved = before_ != after_ || (keeper != nullptr && layout && *layout != keeper->residual_layout());
  if (all_reduce(ranks, std::int64_t{moved}, Reduce::max) == 0) return false;
  if (keeper != nullptr) keeper->flush_residuals();
  return true;
}

}  // namespace cohort
