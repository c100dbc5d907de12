#pragma once

#include <span>
#include <string>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/tensor/shape.hpp"

namespace cohort {

/// The [[optimizer.group]] entries of a job file: each names parameters by a shell pattern in which * also matches '/', and
/// gives them a learning-rate factor, weight decay or not, or freezes them. The first entry that matches a parameter
/// counts; what none matches is in a last group "*" with the defaults. Where an entry does not say, parameters decay, but
/// for those with at most one dimension (biases, scales of normalisations) while optimizer.no_decay_on_1d holds, as it does
/// by default: pulling these to zero regularises little (Goyal et al. 2017, "Accurate, large minibatch SGD", section 5.1; He
/// et al. 2019, "Bag of tricks for image classification", section 3.1).
class ParameterGroups {
 public:
  /// Binds optimizer.no_decay_on_1d and optimizer.group. Error invalid_argument.
  explicit ParameterGroups(Section& optimizer);

  /// The group of each parameter. Error not_found, with the parameters' names, for an entry that no parameter comes to.
  [[nodiscard]] std::vector<ParameterGroup> assign(std::span<const std::string> names, std::span<const Shape> shapes) const;

 private:
  struct Entry {
    ParameterGroup group;
    bool says_decay = false;
    std::string where{};   ///< "optimizer.group 2"
  };
  [[nodiscard]] std::size_t first_match(const std::string& name) const;   ///< entries_.size() - 1 at the latest: "*"

  std::vector<Entry> entries_;
  bool no_decay_on_1d_ = true;
};

}  // namespace cohort
