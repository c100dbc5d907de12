#include "checkpoint/part_file.hpp"

#include <algorithm>

#include "checkpoint/checkpoint_file.hpp"
#include "cohort/base/crc32c.hpp"
#include "cohort/base/error.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

std::string path_of(const PartsOfIndex& of, std::int64_t rank) {
  const std::string path = (of.index.parent_path() / part_file_name(of.parts, rank)).string();
  std::error_code error;
  check(fs::is_regular_file(path, error), Code::data_loss, path + ": is missing, and " + of.index.string() + " needs it");
  return path;
}

}  // namespace

std::string damage_text(const std::string& path, const std::string& name, const std::string& why) {
  return path + ": '" + name + "' " + why + ", the file is damaged";
}

void refuse_external(const hdf5::File& file, const std::string& name) {
  check(!file.is_external(name), Code::data_loss, file.path() + ": '" + name + "' has its elements in a file outside (external storage or an external link), "
        "which no checkpoint does: it is refused");
}

FlatRange overlap(FlatRange a, FlatRange b) {
  const std::int64_t begin = std::max(a.begin, b.begin), end = std::min(a.end(), b.end());
  return {begin, std::max<std::int64_t>(end - begin, 0)};
}

void copy_overlap(const Tensor& values, std::int64_t begin, FlatRange wanted, float* out) {
  const FlatRange both = overlap({begin, values.elements()}, wanted);
  if (both.n > 0) std::copy_n(values.data<float>() + (both.begin - begin), both.n, out + (both.begin - wanted.begin));
}

PartFile::PartFile(const PartsOfIndex& of, std::int64_t rank) : path_(path_of(of, rank)), file_(hdf5::File::open(path_)) {
  const auto wrong = [&](const std::string& why) { fail(Code::data_loss, path_ + ": " + why + ", the file is damaged"); };
  if (!file_.has_attribute("/", "format") || file_.attribute<std::string>("/", "format") != kPartFormat) wrong("is no part of a checkpoint");
  if (file_.attribute<std::int64_t>("/", "step") != of.step || file_.attribute<std::int64_t>("/", "rank") != rank ||
      file_.attribute<std::int64_t>("/", "ranks") != of.ranks) {
    wrong("is a part of another checkpoint than " + of.index.string());
  }
}

PartFile::Contents PartFile::read(const std::string& name, const Shape& whole) const {
  check(file_.has(name), Code::data_loss, damage_text(path_, name, "is not in it"));
  refuse_external(file_, name);
  const auto [dtype, shape] = file_.info(name);
  const auto begin = file_.attribute<std::int64_t>(name, "begin");
  const bool possible = dtype == DType::float32 && shape.rank() == 1 && begin >= 0 && begin <= whole.elements() &&
                        shape.elements() <= whole.elements() - begin && static_cast<std::uintmax_t>(shape.elements()) <= fs::file_size(path_);
  check(possible, Code::data_loss, damage_text(path_, name, "is no piece of the tensor"));
  Contents contents{.piece = {.range = {begin, shape.elements()}}, .values = Tensor(host(), DType::float32, shape), .intact = true};
  if (shape.elements() == 0) return contents;
  file_.read(name, contents.values);
  contents.piece.crc = crc32c(contents.values.raw(), contents.values.bytes());
  contents.intact = contents.piece.crc == file_.attribute<std::uint32_t>(name, "crc32c");
  return contents;
}

PartFile::Contents PartFile::intact(const std::string& name, const Shape& whole) const {
  Contents contents = read(name, whole);
  check(contents.intact, Code::data_loss, damage_text(path_, name, kWrongCrc));
  return contents;
}

void TensorCover::add(const StoredPiece& piece) {
  if (piece.range.n > 0) pieces_.push_back(piece);
}

bool TensorCover::is_whole(std::int64_t elements) {
  std::ranges::sort(pieces_, {}, [](const StoredPiece& piece) { return piece.range.begin; });
  std::int64_t end = 0;
  for (const StoredPiece& piece : pieces_) {
    if (piece.range.begin != end) return false;
    end += piece.range.n;
  }
  return end == elements;
}

std::uint32_t TensorCover::crc() const {
  std::uint32_t crc = 0;
  for (const StoredPiece& piece : pieces_) crc = combine_crc32c(crc, piece.crc, static_cast<std::uint64_t>(piece.range.n) * sizeof(float));
  return crc;
}

}  // namespace cohort
