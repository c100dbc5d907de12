#include "checkpoint/open_checkpoint.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_folder.hpp"
#include "checkpoint/checkpoint_reader.hpp"
#include "checkpoint/load_group.hpp"
#include "checkpoint/piece_exchange.hpp"
#include "checkpoint/wanted_state.hpp"
#include "cohort/base/random.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

/// The file that a path means: itself, or what `latest`, `best` or another link points at.
fs::path resolve(const fs::path& path) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  const fs::path named = folder ? path / kLatest : path, around = named.has_parent_path() ? named.parent_path() : ".";
  if (named.filename() == kLatest) return find_latest(around).value_or(named);
  if (named.filename() == kBest) return checkpoint_of(around, kBest).value_or(named);
  return fs::is_symlink(named, error) ? around / fs::read_symlink(named, error) : named;
}

/// "; missing: a b c and 7 more"
std::string listed(const std::string& what, const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 8;
  std::string text = names.empty() ? "" : "; " + what + ":";
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) text += " " + names[i];
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

void require_fit(const CheckpointReader& file, const WishList& wishes, Extra extra) {
  std::vector<std::string> missing, different, unasked;
  const std::vector<std::string> names = file.names();
  for (const auto& [name, wish] : wishes) {
    if (!std::binary_search(names.begin(), names.end(), name)) {
      if (wish.needed) missing.push_back(name);
    } else if (const std::string stored = file.what(name); stored != wish.what) {
      different.push_back(name + " (" + stored + " in the file, " + wish.what + " here)");
    }
  }
  for (const auto& name : names) {
    if (extra == Extra::refuse && !wishes.contains(name)) unasked.push_back(name);
  }
  if (missing.empty() && different.empty() && unasked.empty()) return;
  fail(Code::failed_precondition, file.header().path.string() + ": is not of this model and optimizer" +
                                      listed("missing in the file", missing) + listed("only in the file", unasked) +
                                      listed("different", different));
}

/// Where a data set is.
struct Place {
  enum class Kind : std::uint32_t { absent, whole, in_pieces } kind = Kind::absent;
  std::uint32_t crc = 0;                 // of a tensor in pieces
};

/// Of each of the wishes, in their order.
std::vector<Place> find_all(const CheckpointReader& file, const WishList& wishes) {
  std::vector<Place> places;
  for (const auto& [name, wish] : wishes) {
    Place& place = places.emplace_back();
    if (!file.has(name)) continue;
    place.kind = file.is_in_pieces(name) ? Place::Kind::in_pieces : Place::Kind::whole;
    if (place.kind == Place::Kind::in_pieces) place.crc = file.crc(name);
  }
  return places;
}

void require_same_wishes(const LoadGroup& group, const WishList& wishes) {
  std::string all;
  for (const auto& [name, wish] : wishes) all += name + " " + wish.what + "\n";
  const std::vector<std::uint64_t> hashes = group.gather(stream_of(all));
  for (const std::uint64_t hash : hashes) {
    check(hash == hashes[0], Code::internal, "checkpoint: ranks that load one together ask for different states");
  }
}

/// What this rank gets rank 0's item in: memory of its size.
StateItem room_for(const Wish& wish) {
  if (!std::holds_alternative<Tensor>(wish.like)) return wish.like;
  return Tensor(host(), wish.dtype, wish.shape);
}

/// `item`: what has been read on rank 0, elsewhere room for it. Of a rank that wants a piece the piece is kept, in `kept`.
StateItem shared_item(const LoadGroup& group, StateItem item, const Wish& wish, const Tensor& kept) {
  if (auto* const tensor = std::get_if<Tensor>(&item)) {
    group.share({static_cast<std::byte*>(tensor->raw()), tensor->bytes()});
    if (!wish.piece) return item;
    copy_overlap(*tensor, 0, *wish.piece, kept.data<float>());
    return kept;
  }
  if (auto* const text = std::get_if<std::string>(&item)) group.share(*text);
  else if (auto* const number = std::get_if<std::int64_t>(&item)) group.share_values(std::span(number, 1));
  else group.share_values(std::span(&std::get<double>(item), 1));
  return item;
}

TensorInPieces in_pieces(const std::string& name, const Wish& wish, std::uint32_t crc) {
  const FlatRange wanted = wish.piece.value_or(FlatRange{0, wish.shape.elements()});
  return {.name = name, .whole = wish.shape, .crc = crc, .wanted = wanted,
          .kept = Tensor(host(), DType::float32, wish.piece ? Shape{wanted.n} : wish.shape)};
}

void share(const LoadGroup& group, CheckpointHeader& header, PartsOfIndex& parts) {
  std::string path = header.path.string();
  std::array<std::int64_t, 3> numbers{header.step, header.files, parts.ranks};
  group.share(path);
  group.share(header.configuration);
  group.share(parts.parts);
  group.share_values(std::span<std::int64_t>(numbers));
  header.path = path;
  header.step = numbers[0];
  header.files = numbers[1];
  parts.index = path;
  parts.ranks = numbers[2];
  parts.step = header.step;
}

}  // namespace

OpenCheckpoint::OpenCheckpoint(fs::path path) : path_(std::move(path)) {}
OpenCheckpoint::OpenCheckpoint(OpenCheckpoint&&) noexcept = default;
OpenCheckpoint& OpenCheckpoint::operator=(OpenCheckpoint&&) noexcept = default;
OpenCheckpoint::~OpenCheckpoint() = default;

LoadGroup OpenCheckpoint::group(Communicator* ranks) {
  return {ranks, [this] { return alternative(); }};
}

const fs::path& OpenCheckpoint::file() {
  if (file_.empty()) file_ = resolve(path_);
  return file_;
}

const CheckpointReader& OpenCheckpoint::reader() {
  if (reader_ == nullptr) reader_ = std::make_unique<CheckpointReader>(file());
  return *reader_;
}

std::string OpenCheckpoint::alternative() {
  const fs::path around = file().has_parent_path() ? file().parent_path() : ".";
  auto others = list_checkpoints(around);
  std::erase_if(others, [&](const fs::path& other) { return other.filename() == file().filename(); });
  const auto intact = std::ranges::find_if(others, is_intact_checkpoint);
  return intact != others.end() ? "; an intact checkpoint is " + intact->string() : "; there is no other intact checkpoint beside it";
}

CheckpointHeader OpenCheckpoint::load(Communicator* ranks, std::span<Stateful* const> parts, Extra extra) {
  LoadGroup group = this->group(ranks);
  const WishList wishes = wishes_of(parts);
  require_same_wishes(group, wishes);
  CheckpointHeader header;
  PartsOfIndex files;
  std::vector<Place> places(wishes.size());
  group.on_root([&] {
    require_fit(reader(), wishes, extra);
    places = find_all(reader(), wishes);
    header = reader().header();
    files = reader().parts();
  });
  share(group, header, files);
  group.share_values(std::span<Place>(places));
  std::map<std::string, StateItem> items;
  std::vector<TensorInPieces> tensors;
  std::size_t next = 0;
  for (const auto& [name, wish] : wishes) {
    const Place& place = places[next++];
    StateItem item;
    Tensor kept;
    group.on_all([&] {                  // with all memory that it takes: a rank that has none is heard of
      if (place.kind == Place::Kind::in_pieces) tensors.push_back(in_pieces(name, wish, place.crc));
      if (place.kind != Place::Kind::whole) return;
      item = group.leads() ? reader().intact(name) : room_for(wish);
      if (wish.piece) kept = Tensor(host(), DType::float32, {wish.piece->n});
    });
    if (place.kind == Place::Kind::whole) items.emplace(name, shared_item(group, std::move(item), wish, kept));
  }
  read_in_pieces(group, files, tensors);
  for (TensorInPieces& tensor : tensors) items.emplace(tensor.name, tensor.kept);
  load_items(items, parts);
  return header;
}

std::string OpenCheckpoint::text(Communicator* ranks, const std::string& name) {
  LoadGroup group = this->group(ranks);
  std::string text;
  group.on_root([&] {
    if (reader().has(name)) text = std::get<std::string>(reader().intact(name));
  });
  group.share(text);
  return text;
}

CheckpointDescription OpenCheckpoint::describe() {
  LoadGroup group = this->group(nullptr);
  CheckpointDescription description;
  group.on_root([&] { description = cohort::describe(reader()); });
  return description;
}

}  // namespace cohort
