#include "checkpoint/wanted_state.hpp"

#include <utility>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

/// First reading: what the state wants, changing nothing.
class Wishes final : public StateReader {
 public:
  void tensor(const std::string& name, const Tensor& value) override {
    add(name, {.what = text_of(value.dtype(), value.shape()), .like = Tensor(), .dtype = value.dtype(), .shape = value.shape()});
  }
  void piece(const std::string& name, const Shape& whole, std::int64_t begin, const Tensor& values) override {
    add(name, {.what = text_of(DType::float32, whole), .piece = FlatRange{begin, values.elements()}, .like = Tensor(), .shape = whole});
  }
  void value(const std::string& name, std::int64_t&) override { add(name, {.what = "int64 value", .like = std::int64_t{0}}); }
  void value(const std::string& name, double&) override { add(name, {.what = "float64 value", .like = 0.0}); }
  void added_value(const std::string& name, std::int64_t&) override { add(name, {.what = "int64 value", .needed = false, .like = std::int64_t{0}}); }
  void text(const std::string& name, std::string&) override { add(name, {.what = "text", .like = std::string()}); }
  [[nodiscard]] WishList take() { return std::move(wishes_); }

 private:
  static std::string text_of(DType dtype, const Shape& shape) { return std::string(name(dtype)) + shape.text(); }
  void add(const std::string& name, Wish wish) {
    check(wishes_.emplace("/" + name, std::move(wish)).second, Code::internal, "checkpoint: '" + name + "' is there twice");
  }
  WishList wishes_;
};

/// Second reading: everything is there and right.
class Loader final : public StateReader {
 public:
  explicit Loader(const std::map<std::string, StateItem>& items) : items_(items) {}
  void tensor(const std::string& name, const Tensor& value) override { value.copy_from(get<Tensor>(name)); }
  void piece(const std::string& name, const Shape&, std::int64_t, const Tensor& values) override { values.copy_from(get<Tensor>(name)); }
  void value(const std::string& name, std::int64_t& value) override { value = get<std::int64_t>(name); }
  void value(const std::string& name, double& value) override { value = get<double>(name); }
  void added_value(const std::string& name, std::int64_t& value) override {
    if (items_.contains("/" + name)) value = get<std::int64_t>(name);
  }
  void text(const std::string& name, std::string& value) override { value = get<std::string>(name); }

 private:
  template <class T>
  [[nodiscard]] const T& get(const std::string& name) const {
    return std::get<T>(items_.at("/" + name));
  }
  const std::map<std::string, StateItem>& items_;
};

}  // namespace

WishList wishes_of(std::span<Stateful* const> parts) {
  Wishes wishes;
  for (Stateful* part : parts) part->load(wishes);
  return wishes.take();
}

void load_items(const std::map<std::string, StateItem>& items, std::span<Stateful* const> parts) {
  Loader loader(items);
  for (Stateful* part : parts) part->load(loader);
}

}  // namespace cohort
