#include "checkpoint/checkpoint_reader.hpp"

#include <algorithm>
#include <utility>

#include "cohort/base/crc32c.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kOpenParts = 128;            // a process may have about a thousand files open
constexpr std::int64_t kMostRanks = 1 << 24;       // more are damage

std::string damaged(const std::string& path, const std::string& name, const std::string& why) {
  return path + ": '" + name + "' " + why + ", the file is damaged";
}
constexpr const char* kWrongCrc = "does not fit its CRC-32C";

/// The elements of `piece` that are among those from `begin` on.
void copy_overlap(const Tensor& values, std::int64_t begin, FlatRange piece, float* out) {
  const std::int64_t from = std::max(begin, piece.begin), to = std::min(begin + values.elements(), piece.end());
  if (from < to) std::copy_n(values.data<float>() + (from - begin), to - from, out + (from - piece.begin));
}

}  // namespace

std::string text_in_checkpoint(const fs::path& path, const std::string& name) {
  const CheckpointReader file(path);
  return file.has(name) ? std::get<std::string>(file.intact(name)) : std::string();
}

bool is_intact_checkpoint(const fs::path& path) {
  try {
    const CheckpointReader file(path);
    for (const auto& name : file.names()) static_cast<void>(file.intact(name));
    return true;
  } catch (const Error&) {   // the answer is no, whatever is wrong with it
    return false;
  }
}

CheckpointReader::CheckpointReader(const fs::path& path) : file_(hdf5::File::open(path)), bytes_(fs::file_size(path)) {
  header_.path = path;
  if (!file_.has_attribute("/", "format") || file_.attribute<std::string>("/", "format") != kCheckpointFormat) {
    fail(Code::invalid_argument, path.string() + ": is an HDF5 file, but no checkpoint");
  }
  if (const auto version = file_.attribute<std::int64_t>("/", "version"); version != kCheckpointVersion) {
    fail(Code::invalid_argument, path.string() + ": is of checkpoint version " + std::to_string(version) +
                                     ", this program knows version " + std::to_string(kCheckpointVersion));
  }
  const bool is_index = file_.has_attribute("/", "parts");
  check(!is_index || has_intact_seal(path), Code::data_loss, path.string() + ": does not fit the CRC-32C at its end, the file is damaged");
  header_.step = file_.attribute<std::int64_t>("/", "step");
  header_.configuration = std::get<std::string>(intact(std::string(kConfiguration)));
  if (!is_index) return;
  parts_ = file_.attribute<std::string>("/", "parts");
  ranks_ = file_.attribute<std::int64_t>("/", "ranks");
  if (ranks_ < 1 || ranks_ > kMostRanks || parts_.find('/') != std::string::npos) refuse("/", "has impossible attributes");
  header_.files = 1 + ranks_;
}

std::vector<std::string> CheckpointReader::names() const {
  std::vector<std::string> names = file_.datasets();
  std::erase(names, kConfiguration);
  return names;
}

std::string CheckpointReader::what(const std::string& name) const {
  const std::string of = kind(name);
  if (of == "text") return of;
  const auto [dtype, shape] = file_.info(name);
  return std::string(cohort::name(dtype)) + (of == "value" ? " value" : shape.text());
}

CheckpointReader::Contents CheckpointReader::read(const std::string& name, std::optional<FlatRange> piece) const {
  refuse_external(file_, name);
  if (file_.is_virtual(name)) return read_pieces(name, piece);
  StateItem item = read_whole(name);
  const bool fits = file_.attribute<std::uint32_t>(name, "crc32c") == crc_of(item);
  if (const auto* whole = std::get_if<Tensor>(&item); whole != nullptr && piece) {
    Tensor kept(host(), DType::float32, {piece->n});
    copy_overlap(*whole, 0, *piece, kept.data<float>());
    item = kept;
  }
  return {std::move(item), fits ? "" : damaged(header_.path.string(), name, kWrongCrc)};
}

StateItem CheckpointReader::intact(const std::string& name, std::optional<FlatRange> piece) const {
  Contents contents = read(name, piece);
  check(contents.damage.empty(), Code::data_loss, contents.damage);
  return std::move(contents.item);
}

/// A checkpoint is whole, or consists of its own parts: elements that lie in any other file could be anybody's.
void CheckpointReader::refuse_external(const hdf5::File& file, const std::string& name) {
  check(!file.is_external(name), Code::data_loss, file.path() + ": '" + name + "' has its elements in a file outside (external storage or an external link), "
        "which no checkpoint does: it is refused");
}

StateItem CheckpointReader::read_whole(const std::string& name) const {
  if (kind(name) == "text") return file_.read_text(name);
  const auto [dtype, shape] = file_.info(name);
  if (static_cast<std::uintmax_t>(shape.elements()) > bytes_) refuse(name, "is larger than the file");
  Tensor tensor(host(), dtype, shape);
  file_.read(name, tensor);
  if (kind(name) == "tensor") return tensor;
  if (shape.rank() > 0) refuse(name, "is no single value");
  if (dtype == DType::int64) return *tensor.data<std::int64_t>();
  if (dtype == DType::float64) return *tensor.data<double>();
  refuse(name, "is no int64 or float64 value");
}

CheckpointReader::Contents CheckpointReader::read_pieces(const std::string& name, std::optional<FlatRange> piece) const {
  const auto [dtype, shape] = file_.info(name);
  if (parts_.empty() || dtype != DType::float32 || kind(name) != "tensor") refuse(name, "is no tensor in pieces");
  const std::vector<StoredPiece> pieces = pieces_of(name, shape);
  const FlatRange wanted = piece.value_or(FlatRange{0, shape.elements()});
  const Tensor kept(host(), DType::float32, piece ? Shape{piece->n} : shape);
  std::uint32_t whole = 0;
  std::string damage;
  for (const StoredPiece& stored : pieces) {
    const Tensor values(host(), DType::float32, {stored.range.n});
    refuse_external(part(stored.rank).file, name);
    part(stored.rank).file.read(name, values);
    const std::uint32_t crc = crc32c(values.raw(), values.bytes());
    if (crc != stored.crc && damage.empty()) damage = damaged(path_of_part(stored.rank), name, kWrongCrc);
    whole = combine_crc32c(whole, crc, values.bytes());
    copy_overlap(values, stored.range.begin, wanted, kept.data<float>());
  }
  if (damage.empty() && whole != file_.attribute<std::uint32_t>(name, "crc32c")) {
    damage = damaged(header_.path.string(), name, "does not fit its CRC-32C, though each of its pieces does");
  }
  return {kept, damage};
}

std::vector<CheckpointReader::StoredPiece> CheckpointReader::pieces_of(const std::string& name, const Shape& whole) const {
  std::vector<StoredPiece> pieces;
  for (std::int64_t rank = 0; rank < ranks_; ++rank) {
    const Part& from = part(rank);
    check(from.file.has(name), Code::data_loss, damaged(from.path, name, "is not in it"));
    const auto [dtype, shape] = from.file.info(name);
    const auto begin = from.file.attribute<std::int64_t>(name, "begin");
    const bool possible = dtype == DType::float32 && shape.rank() == 1 && begin >= 0 && begin <= whole.elements() &&
                          shape.elements() <= whole.elements() - begin && static_cast<std::uintmax_t>(shape.elements()) <= fs::file_size(from.path);
    check(possible, Code::data_loss, damaged(from.path, name, "is no piece of the tensor"));
    if (shape.elements() > 0) pieces.push_back({rank, {begin, shape.elements()}, from.file.attribute<std::uint32_t>(name, "crc32c")});
  }
  std::ranges::sort(pieces, {}, [](const StoredPiece& piece) { return piece.range.begin; });
  std::int64_t end = 0;
  for (const StoredPiece& piece : pieces) {
    if (piece.range.begin != end) break;
    end += piece.range.n;
  }
  if (end != whole.elements()) refuse(name, "has not all its pieces beside it");
  return pieces;
}

const CheckpointReader::Part& CheckpointReader::part(std::int64_t rank) const {
  if (const auto known = open_.find(rank); known != open_.end()) return known->second;
  if (open_.size() >= kOpenParts) open_.clear();
  const std::string path = path_of_part(rank);
  std::error_code error;
  check(fs::is_regular_file(path, error), Code::data_loss, path + ": is missing, and " + header_.path.string() + " needs it");
  hdf5::File file = hdf5::File::open(path);
  const auto wrong = [&](const std::string& why) { fail(Code::data_loss, path + ": " + why + ", the file is damaged"); };
  if (!file.has_attribute("/", "format") || file.attribute<std::string>("/", "format") != kPartFormat) wrong("is no part of a checkpoint");
  if (file.attribute<std::int64_t>("/", "step") != header_.step || file.attribute<std::int64_t>("/", "rank") != rank ||
      file.attribute<std::int64_t>("/", "ranks") != ranks_) {
    wrong("is a part of another checkpoint than " + header_.path.string());
  }
  return open_.emplace(rank, Part{path, std::move(file)}).first->second;
}

std::string CheckpointReader::path_of_part(std::int64_t rank) const {
  return (header_.path.parent_path() / part_file_name(parts_, rank)).string();
}

void CheckpointReader::refuse(const std::string& name, const std::string& why) const {
  fail(Code::data_loss, damaged(header_.path.string(), name, why));
}

}  // namespace cohort
