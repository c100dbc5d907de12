// Data sets that belong together, such as one to train with and one to validate, made to agree.
#include <algorithm>
#include <limits>
#include <numeric>

#include "cohort/base/error.hpp"
#include "cohort/data/reader.hpp"

namespace cohort {
namespace {

class OtherLabels final : public Reader {
 public:
  /// `label`: the new one of each old one.
  OtherLabels(std::shared_ptr<const Reader> whole, Classes classes, std::vector<std::int32_t> label)
      : whole_(std::move(whole)), classes_(std::move(classes)), label_(std::move(label)) {
    const auto is_label = [&](const Field& field) { return field.name == classes_.field && field.dtype == DType::int32; };
    const auto at = std::ranges::find_if(whole_->fields(), is_label);
    check(at != whole_->fields().end(), Code::internal,
          "a data set names classes, but has no int32 field '" + classes_.field + "'");
    field_ = static_cast<std::size_t>(at - whole_->fields().begin());
  }

  [[nodiscard]] std::int64_t size() const override { return whole_->size(); }
  [[nodiscard]] const std::vector<Field>& fields() const override { return whole_->fields(); }
  [[nodiscard]] Classes classes() const override { return classes_; }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    whole_->read(samples, buffers);
    const auto each = static_cast<std::size_t>(fields()[field_].shape.elements());
    for (std::int32_t& label : std::span(static_cast<std::int32_t*>(buffers[field_]), samples.size() * each)) {
      label = label_[static_cast<std::size_t>(label)];
    }
  }

 private:
  std::shared_ptr<const Reader> whole_;
  Classes classes_;
  std::vector<std::int32_t> label_;
  std::size_t field_ = 0;
};

class OtherOrder final : public Reader {
 public:
  /// `place`: where the field of the whole is here.
  OtherOrder(std::shared_ptr<const Reader> whole, std::vector<Field> fields, std::vector<std::size_t> place)
      : whole_(std::move(whole)), fields_(std::move(fields)), place_(std::move(place)) {}

  [[nodiscard]] std::int64_t size() const override { return whole_->size(); }
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }
  [[nodiscard]] Classes classes() const override { return whole_->classes(); }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    std::vector<void*> in_order;
    for (const std::size_t place : place_) in_order.push_back(buffers[place]);
    whole_->read(samples, in_order);
  }

 private:
  std::shared_ptr<const Reader> whole_;
  std::vector<Field> fields_;
  std::vector<std::size_t> place_;
};

std::string text_of(const Field& field) { return std::string(name(field.dtype)) + field.shape.text(); }

std::vector<std::string> names_of(const std::vector<Field>& fields) {
  std::vector<std::string> names;
  for (const Field& field : fields) names.push_back(field.name);
  return names;
}

}  // namespace

std::shared_ptr<const Reader> with_classes(std::shared_ptr<const Reader> reader, const std::vector<std::string>& names,
                                           const std::string& what) {
  const Classes old = reader->classes();
  if (old.names.empty() || old.names == names) return reader;
  std::vector<std::int32_t> label;
  for (const std::string& name : old.names) {
    const auto at = std::ranges::find(names, name);
    if (at == names.end()) fail(Code::invalid_argument, what + ": " + unknown_name_text("class", name, names));
    label.push_back(static_cast<std::int32_t>(at - names.begin()));
  }
  return std::make_shared<OtherLabels>(std::move(reader), Classes{old.field, names}, std::move(label));
}

std::shared_ptr<const Reader> with_fields(std::shared_ptr<const Reader> reader, const std::vector<Field>& fields,
                                          const std::string& what, const std::string& others) {
  const std::vector<std::string> here = names_of(reader->fields()), there = names_of(fields);
  std::vector<std::size_t> place;
  for (const Field& field : reader->fields()) {
    const auto at = std::ranges::find(there, field.name);
    if (at == there.end())
      fail(Code::invalid_argument, what + ": has a field '" + field.name + "', which " + others + " has not");
    place.push_back(static_cast<std::size_t>(at - there.begin()));
    const Field& other = fields[place.back()];
    if (other.dtype == field.dtype && other.shape == field.shape) continue;
    fail(Code::invalid_argument, what + ": field '" + field.name + "' is " + text_of(field) + " in each sample, and " +
                                     text_of(other) + " in those of " + others);
  }
  for (const std::string& name : there) {
    if (std::ranges::find(here, name) != here.end()) continue;
    fail(Code::invalid_argument, what + ": has no field '" + name + "', which " + others + " has");
  }
  if (std::ranges::is_sorted(place)) return reader;
  return std::make_shared<OtherOrder>(std::move(reader), fields, std::move(place));
}

}  // namespace cohort
