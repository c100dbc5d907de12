// Data sets of an HDF5 file as fields; samples are entries of their first dimension and are read when asked for. A value
// that the field's type cannot hold is an error; NaN and infinity stay what they are in fields of floats.
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "cohort/base/error.hpp"
#include "cohort/data/reader.hpp"
#include "data/expansion_limit.hpp"
#include "data/normalise.hpp"
#include "hdf5/file.hpp"

namespace cohort {
namespace {

struct FieldOptions {
  std::string name, dataset, dtype = "as stored";
  std::vector<std::int64_t> shape;
  std::int64_t classes = 0;
  Normalise normalise;

  FieldOptions() = default;
  explicit FieldOptions(Section& section) {
    section.bind("name", name, "the field's name in the batch");
    check(!name.empty(), Code::invalid_argument, section.path() + ": needs a name");
    dataset = "/" + name;
    section.bind("dataset", dataset, "full path of the data set in the file");
    section.bind("dtype", dtype, "element type in the batch",
                 one_of({"as stored", "float32", "float64", "int32", "int64", "uint8"}));
    section.bind("shape", shape, "of one sample, as in [28, 28, 1], of as many elements as are stored; empty: as stored",
                 at_least(1));
    check(shape.size() <= Shape::kMaxRank - 1, Code::invalid_argument, section.path() + ".shape: at most 7 dimensions");
    section.bind("classes", classes, "values are whole numbers from 0 to below this; 0: any", at_least(0));
    normalise.bind(section);
    if (normalise.any() && dtype != "float32") {
      fail(Code::invalid_argument, section.path() + ": scale, mean and std need dtype = \"float32\"");
    }
    if (classes > 0 && normalise.any()) fail(Code::invalid_argument, section.path() + ": classes are not normalised");
  }
};

struct Hdf5Options {
  std::string file;
  ExpansionLimit expansion;
  std::vector<FieldOptions> fields;

  explicit Hdf5Options(Section& section) {
    section.bind_path("file", file, "the HDF5 file");
    expansion.bind(section);
    for (Section* entry : section.children("field")) fields.emplace_back(*entry);
    check(!file.empty(), Code::invalid_argument, section.path() + ": reader 'hdf5' needs the path file");
  }
};

class Hdf5Reader final : public Reader {
 public:
  explicit Hdf5Reader(const Hdf5Options& options) : file_(hdf5::File::open(options.file)), options_(options.fields) {
    if (options_.empty()) take_root_datasets();
    for (const FieldOptions& field : options_) add(field, options.expansion);
  }

  [[nodiscard]] std::int64_t size() const override { return size_; }
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }

  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    for (std::size_t f = 0; f < fields_.size(); ++f) {
      file_.read_rows(options_[f].dataset, fields_[f].dtype, samples, buffers[f]);
      const std::int64_t each = fields_[f].shape.elements();
      if (options_[f].normalise.any()) {
        auto* values = static_cast<float*>(buffers[f]);
        const std::int64_t count = each * static_cast<std::int64_t>(samples.size());
        for (std::int64_t i = 0; i < count; ++i) {
          const float stored = values[i];
          values[i] = options_[f].normalise(stored);
          if (std::isfinite(values[i]) || !std::isfinite(stored)) continue;
          fail(Code::data_loss, file_.path() + ": '" + options_[f].dataset + "': sample " +
                                    std::to_string(samples[static_cast<std::size_t>(i / each)]) + " holds " +
                                    std::to_string(stored) + ", which scale, mean and std bring beyond float32");
        }
      }
      if (options_[f].classes > 0) {
        dispatch(fields_[f].dtype,
                 [&]<class T>() { check_classes<T>(f, samples, static_cast<const T*>(buffers[f]), each); });
      }
    }
  }

 private:
  void take_root_datasets() {
    for (const std::string& dataset : file_.datasets()) {
      if (dataset.find('/', 1) != std::string::npos) continue;
      FieldOptions field;
      field.name = dataset.substr(1);
      field.dataset = dataset;
      options_.push_back(field);
    }
    check(!options_.empty(), Code::invalid_argument,
          file_.path() + ": no data sets in its root group: name them in [[field]] sections");
  }

  void add(const FieldOptions& options, const ExpansionLimit& expansion) {
    const std::string where = file_.path() + ": '" + options.dataset + "'";
    const hdf5::DatasetInfo info = file_.info(options.dataset);
    expansion.require(static_cast<std::uint64_t>(info.shape.elements()) * size_of(info.dtype),
                      file_.stored_bytes(options.dataset), where + ": says that it has");
    if (info.shape.rank() == 0) fail(Code::data_loss, where + ": is one value, samples are entries of a first dimension");
    if (info.shape[0] > std::numeric_limits<std::uint32_t>::max())
      fail(Code::data_loss, where + ": has more than 2^32 - 1 samples");
    if (fields_.empty()) size_ = info.shape[0];
    if (info.shape[0] != size_) {
      fail(Code::data_loss, where + ": has " + std::to_string(info.shape[0]) + " samples, but '" + options_.front().dataset +
                                "' has " + std::to_string(size_));
    }
    Shape shape = info.shape;
    shape.erase(0);
    if (const Shape asked(options.shape); !options.shape.empty()) {
      check(asked.elements() == shape.elements(), Code::invalid_argument,
            where + ": a sample is " + shape.text() + ", which has another number of elements than shape = " + asked.text());
      shape = asked;
    }
    const DType dtype = options.dtype == "as stored" ? info.dtype : dtype_from(options.dtype);
    if (options.classes > 0 && is_float(dtype)) {
      fail(Code::invalid_argument,
           where + ": classes are whole numbers, give dtype = \"int32\" for these " + std::string(name(dtype)) + " values");
    }
    fields_.push_back({options.name, dtype, shape});
  }

  template <class T>
  void check_classes(std::size_t f, std::span<const std::uint32_t> samples, const T* values, std::int64_t each) const {
    if constexpr (std::is_integral_v<T>) {
      const auto width = static_cast<std::size_t>(each);
      for (std::size_t i = 0; i < samples.size() * width; ++i) {
        const auto value = static_cast<std::int64_t>(values[i]);
        if (value >= 0 && value < options_[f].classes) continue;
        fail(Code::data_loss, file_.path() + ": '" + options_[f].dataset + "': sample " +
                                  std::to_string(samples[i / width]) + " holds " + std::to_string(value) +
                                  ", expected from 0 to below classes = " + std::to_string(options_[f].classes));
      }
    }
  }

  hdf5::File file_;
  std::vector<FieldOptions> options_;
  std::vector<Field> fields_;
  std::int64_t size_ = 0;
};

const Registered<ReaderType> reader{"hdf5", reader_type<Hdf5Reader, Hdf5Options>()};

}  // namespace
}  // namespace cohort
