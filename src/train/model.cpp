#include "cohort/train/model.hpp"

#include "cohort/graph/functions.hpp"

namespace cohort {

Value Batch::operator[](std::string_view name) const {
  if (const auto at = fields.find(name); at != fields.end()) return at->second;
  std::vector<std::string> known;
  for (const auto& [field, value] : fields) known.push_back(field);
  fail(Code::not_found, unknown_name_text("field of the batch", name, known));
}

Model classifier(const Batch& batch, Value logits, double label_smoothing) {
  const Value labels = batch["label"];
  return {.loss = mean(softmax_cross_entropy(logits, labels, static_cast<float>(label_smoothing))),
          .metrics = {{"accuracy", accuracy(logits, labels)}},
          .output = logits};
}

}  // namespace cohort
