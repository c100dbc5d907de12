#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/base/registry.hpp"
#include "cohort/tensor/dtype.hpp"
#include "cohort/tensor/shape.hpp"

namespace cohort {

/// One named part of every sample: an image, a label.
struct Field {
  std::string name;
  DType dtype = DType::float32;
  Shape shape;               ///< of one sample; a scalar's is []
};

/// What the labels of a data set stand for.
struct Classes {
  std::string field;                     ///< of int32: places in `names`
  std::vector<std::string> names;        ///< empty: labels are numbers, and nobody knows what they mean
};

/// A data set with random access to its samples.
class Reader {
 public:
  virtual ~Reader() = default;
  [[nodiscard]] virtual std::int64_t size() const = 0;                       ///< samples, below 2^32
  [[nodiscard]] virtual const std::vector<Field>& fields() const = 0;
  /// Sample `samples[i]`'s field f goes to the i-th place of `buffers[f]` (caller's memory, dense, samples.size() times
  /// fields()[f].shape elements of its dtype). Thread-safe. Errors name file and place.
  virtual void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const = 0;
  /// Of a data set that names its classes. Others may number the same classes in another way: see `with_classes`.
  [[nodiscard]] virtual Classes classes() const { return {}; }
};

/// A kind of data set, by name: `const Registered<ReaderType> reader{"idx", reader_type<IdxReader, IdxOptions>()};` `open`
/// binds its own options in the section that it is given; `bind` does so without a look at the data, which may be missing. A
/// kind without `bind` is opened in its place.
struct ReaderType {
  std::function<std::unique_ptr<Reader>(Section&)> open;
  std::function<void(Section&)> bind{};
};
/// Of a reader that is made from its options, which are bound by their constructor.
template <class TheReader, class Options>
[[nodiscard]] ReaderType reader_type() {
  return {.open = [](Section& section) { return std::make_unique<TheReader>(Options(section)); },
          .bind = [](Section& section) { static_cast<void>(Options(section)); }};
}
template <>
inline constexpr std::string_view kKindOf<ReaderType> = "reader";

/// The data set that a section describes: `reader` names the kind, `limit` cuts it to its first samples, the rest are that
/// kind's own options.
[[nodiscard]] std::shared_ptr<const Reader> open_reader(Section& section);
/// Binds the same options, for whoever does without the data. Errors of the options alone.
void bind_reader(Section& section);

/// The same data set, of whose classes label i is the one called `names[i]`. Error invalid_argument, beginning with `what`,
/// that names a class that is not among `names`. A data set without names of classes stays as it is.
[[nodiscard]] std::shared_ptr<const Reader> with_classes(std::shared_ptr<const Reader> reader,
                                                         const std::vector<std::string>& names, const std::string& what);

/// The same data set with its fields in the order of `fields`. Error invalid_argument, beginning with `what`, that names
/// the field, and its types and shapes, unless it has just these; `others`: whose fields they are.
[[nodiscard]] std::shared_ptr<const Reader> with_fields(std::shared_ptr<const Reader> reader,
                                                        const std::vector<Field>& fields, const std::string& what,
                                                        const std::string& others);

}  // namespace cohort
