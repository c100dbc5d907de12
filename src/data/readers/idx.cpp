// IDX files, as MNIST and its relatives come (http://yann.lecun.com/exdb/mnist/): two zero bytes, element type, number of
// dimensions, the dimensions as big-endian 32-bit numbers, then the elements. One file of images, one of labels.
#include <array>
#include <limits>

#include "cohort/base/error.hpp"
#include "cohort/data/reader.hpp"
#include "data/byte_source.hpp"
#include "data/normalise.hpp"

namespace cohort {
namespace {

constexpr unsigned char kUnsignedByte = 0x08;

struct IdxOptions {
  std::string images, labels;
  int classes = 10;
  ExpansionLimit expansion;
  Normalise normalise{.scale = 1.0 / 255};

  explicit IdxOptions(Section& section) {
    section.bind_path("images", images, "IDX file of images, plain or .gz");
    section.bind_path("labels", labels, "IDX file of labels, plain or .gz");
    section.bind("classes", classes, "labels are below this", between(1, 256));
    expansion.bind(section);
    normalise.bind(section);
    normalise.require_in_range(section, 255);
    check(!images.empty() && !labels.empty(), Code::invalid_argument,
          section.path() + ": reader 'idx' needs the paths images and labels");
  }
};

struct IdxFile {
  Shape shape;
  std::vector<unsigned char> elements;
};

std::int64_t read_dimension(ByteSource& source) {
  std::array<unsigned char, 4> big_endian;
  source.read(big_endian.data(), 4, "the dimensions");
  std::int64_t dim = 0;
  for (const unsigned char byte : big_endian) dim = dim * 256 + byte;
  return dim;
}

IdxFile read_idx(const std::string& path, const ExpansionLimit& limit, std::size_t least_rank, std::size_t most_rank,
                 const char* content) {
  ByteSource source(path, limit);
  std::array<unsigned char, 4> magic;
  source.read(magic.data(), 4, "the magic number");
  if (magic[0] != 0 || magic[1] != 0)
    fail(Code::data_loss, path + ": at offset 0: not an IDX file: it begins with two zero bytes");
  if (magic[2] != kUnsignedByte) {
    fail(Code::data_loss,
         path + ": at offset 2: element type " + std::to_string(magic[2]) + ", expected 8 (unsigned bytes)");
  }
  const std::size_t rank = magic[3];
  if (rank < least_rank || rank > most_rank) {
    fail(Code::data_loss,
         path + ": at offset 3: " + std::to_string(rank) + " dimensions, expected " + std::to_string(least_rank) +
             (least_rank < most_rank ? " to " + std::to_string(most_rank) : "") + " in a file of " + content);
  }
  IdxFile file;
  std::uint64_t elements = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t dim = read_dimension(source);
    file.shape.append(dim);
    if (i > 0 && dim == 0) source.damaged("an image size of 0");
    if (dim != 0 && elements > std::numeric_limits<std::uint64_t>::max() / static_cast<std::uint64_t>(dim)) {
      source.damaged("impossible dimensions " + file.shape.text());
    }
    elements *= static_cast<std::uint64_t>(dim);
  }
  if (elements > source.most_left()) {
    source.damaged("dimensions " + file.shape.text() + " ask for " + std::to_string(elements) +
                   " bytes, the file cannot hold more than " + std::to_string(source.most_left()));
  }
  source.require_allowed(elements, "dimensions " + file.shape.text() + " ask for");
  file.elements.resize(elements);
  source.read(file.elements.data(), elements, content);
  source.expect_end();
  return file;
}

/// All in memory, a byte per pixel; made into floats when read.
class IdxReader final : public Reader {
 public:
  explicit IdxReader(const IdxOptions& options) {
    IdxFile images = read_idx(options.images, options.expansion, 2, 4, "images");
    IdxFile labels = read_idx(options.labels, options.expansion, 1, 1, "labels");
    if (images.shape[0] != labels.shape[0]) {
      fail(Code::data_loss, options.images + ": has " + std::to_string(images.shape[0]) + " images, but " + options.labels +
                                " has " + std::to_string(labels.shape[0]) + " labels");
    }
    constexpr std::size_t kHeader = 8;
    for (std::size_t i = 0; i < labels.elements.size(); ++i) {
      if (labels.elements[i] < options.classes) continue;
      fail(Code::data_loss, options.labels + ": at offset " + std::to_string(kHeader + i) + ": label " +
                                std::to_string(labels.elements[i]) + " of sample " + std::to_string(i) +
                                ", expected below classes = " + std::to_string(options.classes));
    }
    size_ = images.shape[0];
    Shape shape = images.shape;
    shape.erase(0);
    if (shape.rank() == 2) shape.append(1);   // one channel, last
    pixels_ = static_cast<std::size_t>(shape.elements());
    fields_ = {{"image", DType::float32, shape}, {"label", DType::int32, {}}};
    images_ = std::move(images.elements);
    labels_ = std::move(labels.elements);
    for (std::size_t byte = 0; byte < 256; ++byte) value_[byte] = options.normalise(static_cast<double>(byte));
  }

  [[nodiscard]] std::int64_t size() const override { return size_; }
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }

  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    auto* image = static_cast<float*>(buffers[0]);
    auto* label = static_cast<std::int32_t*>(buffers[1]);
    for (const std::uint32_t sample : samples) {
      const unsigned char* stored = images_.data() + sample * pixels_;
      for (std::size_t i = 0; i < pixels_; ++i) image[i] = value_[stored[i]];
      image += pixels_;
      *label++ = labels_[sample];
    }
  }

 private:
  std::int64_t size_ = 0;
  std::size_t pixels_ = 0;
  std::vector<Field> fields_;
  std::vector<unsigned char> images_, labels_;
  std::array<float, 256> value_{};
};

const Registered<ReaderType> reader{"idx", reader_type<IdxReader, IdxOptions>()};

}  // namespace
}  // namespace cohort
