#include "cohort/data/reader.hpp"

#include <algorithm>

namespace cohort {
namespace {

/// The first samples of another reader.
class FirstSamples final : public Reader {
 public:
  FirstSamples(std::shared_ptr<const Reader> whole, std::int64_t samples) : whole_(std::move(whole)), samples_(samples) {}
  [[nodiscard]] std::int64_t size() const override { return samples_; }
  [[nodiscard]] const std::vector<Field>& fields() const override { return whole_->fields(); }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    whole_->read(samples, buffers);
  }
  [[nodiscard]] Classes classes() const override { return whole_->classes(); }

 private:
  std::shared_ptr<const Reader> whole_;
  std::int64_t samples_;
};

/// What a section says of any data set.
struct Choice {
  const ReaderType* type;
  std::int64_t limit = 0;

  explicit Choice(Section& section) {
    const Registry<ReaderType>& types = Registry<ReaderType>::instance();
    std::string kind = "idx";
    section.bind("reader", kind, "the kind of data set", one_of(types.names()));
    section.bind("limit", limit, "use only the first samples; 0: all", at_least(0));
    type = &types.get(kind);
  }
};

}  // namespace

std::shared_ptr<const Reader> open_reader(Section& section) {
  const Choice choice(section);
  std::shared_ptr<const Reader> reader = choice.type->open(section);
  if (choice.limit == 0 || choice.limit >= reader->size()) return reader;
  return std::make_shared<FirstSamples>(std::move(reader), choice.limit);
}

void bind_reader(Section& section) {
  const Choice choice(section);
  if (choice.type->bind) choice.type->bind(section);
  else static_cast<void>(choice.type->open(section));
}

}  // namespace cohort
