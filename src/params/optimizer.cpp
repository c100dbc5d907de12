#include "cohort/params/optimizer.hpp"

namespace cohort {

std::unique_ptr<Optimizer> make_optimizer(Section& section) {
  const auto& known = Registry<OptimizerType>::instance();
  std::string type = "sgd";
  section.bind("type", type, "the rule that turns gradients into steps", one_of(known.names()));
  return known.get(type).make(section);
}

}  // namespace cohort
