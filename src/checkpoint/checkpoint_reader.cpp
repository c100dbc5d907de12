#include "checkpoint/checkpoint_reader.hpp"

#include <algorithm>
#include <utility>

#include "cohort/base/crc32c.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kOpenParts = 128;            // a process may have about a thousand files open
constexpr std::int64_t kMostRanks = 1 << 24;       // more are damage

}  // namespace

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
  parts_ = {.index = path, .parts = file_.attribute<std::string>("/", "parts"), .ranks = file_.attribute<std::int64_t>("/", "ranks"), .step = header_.step};
  if (parts_.ranks < 1 || parts_.ranks > kMostRanks || parts_.parts.find('/') != std::string::npos) refuse("/", "has impossible attributes");
  header_.files = 1 + parts_.ranks;
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

CheckpointReader::Contents CheckpointReader::read(const std::string& name) const {
  if (is_in_pieces(name)) return read_pieces(name);
  StateItem item = read_whole(name);
  const bool fits = file_.attribute<std::uint32_t>(name, "crc32c") == crc_of(item);
  return {std::move(item), fits ? "" : damage_text(header_.path.string(), name, kWrongCrc)};
}

StateItem CheckpointReader::intact(const std::string& name) const {
  Contents contents = read(name);
  check(contents.damage.empty(), Code::data_loss, contents.damage);
  return std::move(contents.item);
}

bool CheckpointReader::is_in_pieces(const std::string& name) const {
  refuse_external(file_, name);
  if (!file_.is_virtual(name)) return false;
  if (parts_.parts.empty() || file_.info(name).dtype != DType::float32 || kind(name) != "tensor") refuse(name, "is no tensor in pieces");
  return true;
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

CheckpointReader::Contents CheckpointReader::read_pieces(const std::string& name) const {
  const Shape shape = file_.info(name).shape;
  Tensor whole;
  TensorCover cover;
  std::string damage;
  for (std::int64_t rank = 0; rank < parts_.ranks; ++rank) {
    const PartFile& from = part(rank);
    const PartFile::Contents contents = from.read(name, shape);
    if (!contents.intact && damage.empty()) damage = damage_text(from.path(), name, kWrongCrc);
    if (whole.empty()) whole = Tensor(host(), DType::float32, shape);
    copy_overlap(contents.values, contents.piece.range.begin, {0, shape.elements()}, whole.data<float>());
    cover.add(contents.piece);
  }
  if (!cover.is_whole(shape.elements())) refuse(name, kPiecesMissing);
  if (damage.empty() && cover.crc() != crc(name)) damage = damage_text(header_.path.string(), name, kWrongWholeCrc);
  return {whole, damage};
}

const PartFile& CheckpointReader::part(std::int64_t rank) const {
  if (const auto known = open_.find(rank); known != open_.end()) return known->second;
  if (open_.size() >= kOpenParts) open_.clear();
  return open_.emplace(rank, PartFile(parts_, rank)).first->second;
}

void CheckpointReader::refuse(const std::string& name, const std::string& why) const {
  fail(Code::data_loss, damage_text(header_.path.string(), name, why));
}

}  // namespace cohort
