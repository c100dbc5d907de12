#include "cohort/graph/model.hpp"

#include "cohort/graph/functions.hpp"

namespace cohort {

Value Batch::operator[](std::string_view name) const {
  if (const auto at = fields.find(name); at != fields.end()) return at->second;
  std::vector<std::string> known;
  for (const auto& [field, value] : fields) known.push_back(field);
  fail(Code::not_found, unknown_name_text("field of the batch", name, known));
}

Value Batch::take(std::string_view name, const Wanted& wanted) const {
  const auto fits = [&](Value field) {
    const std::size_t rank = field.shape().rank();
    return field.dtype() == wanted.dtype && rank >= wanted.least_rank && rank <= wanted.most_rank;
  };
  const auto named = fields.find(name);
  if (named != fields.end() && fits(named->second)) return named->second;
  std::vector<Value> fitting;
  std::string all;
  for (const auto& [field, value] : fields) {
    if (fits(value)) fitting.push_back(value);
    all += (all.empty() ? "" : ", ") + ("'" + field + "' ") + value.signature().text();
  }
  if (named == fields.end() && fitting.size() == 1) return fitting.front();
  const std::string form = std::string(cohort::name(wanted.dtype)) + " " + std::string(wanted.form);
  std::string text = std::string(wanted.who) + " takes the field '" + std::string(name) + "', " + form;
  if (named == fields.end()) text += ", or else the only field of that form";
  fail(Code::invalid_argument, text + "; the data have " + all + ". A reader's options name, convert and shape its fields");
}

Model classifier(const Batch& batch, Value logits, double label_smoothing) {
  const Value labels = batch.take("label", {.who = "a classifier", .dtype = DType::int32, .form = "[n]"});
  return {.loss = mean(softmax_cross_entropy(logits, labels, static_cast<float>(label_smoothing))),
          .metrics = {{"accuracy", accuracy(logits, labels)}},
          .output = logits};
}

}  // namespace cohort
